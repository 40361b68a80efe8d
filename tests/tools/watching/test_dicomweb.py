from __future__ import annotations

import io
import json
import re
import socket
from email.message import Message

import pydicom
import pytest

from common.errors import InputError
from common.volumes.read import read_volume
from support.clients.dicomweb_server import dicomweb_server
from support.data.bright_ball import PATIENT, SIZE, ball, write_ball
from tools.watching import dicomweb as module
from tools.watching.dicomweb import DicomWebSource, Unreachable, parts_of, text
from tools.watching.series import Series

KIND = "application/dicom+json"


@pytest.fixture(scope="module")
def instances(tmp_path_factory):
    """Files of a CT and an MR series, and of what stands for a segmentation."""
    folder = tmp_path_factory.mktemp("series")
    with dicomweb_server() as made:
        for uid, modality in (("1.2.1", "CT"), ("1.2.2", "MR"), ("1.2.3", "SEG")):
            described = {"SeriesDescription": f"a {modality}", "SeriesNumber": 7, "Modality": modality}
            made.add_folder(write_ball(folder / uid, uid, **described))
        return made.instances


@pytest.fixture
def server(instances):
    with dicomweb_server() as running:
        running.instances = dict(instances)
        yield running


def test_series_of_the_wanted_kinds(server):
    found = list(DicomWebSource(server.url, ["CT", "MR"]).find())
    assert found == [
        Series("1.2.1", SIZE[2], number=7, study="1.2.9"),
        Series("1.2.2", SIZE[2], number=7, study="1.2.9"),
    ]
    assert [one.name for one in DicomWebSource(server.url + "/", ["CT", "MR"], re.compile("mr", re.I)).find()] == [
        "1.2.2"
    ]


def test_a_server_that_gives_few_at_a_time_and_no_counts(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PAGE", 1)
    server.add_folder(write_ball(tmp_path / "made", "1.2.0"))
    server.tells_counts = False
    found = list(DicomWebSource(server.url, ["CT"], since="20260131").find())
    assert [(one.name, one.mark, one.number) for one in found] == [("1.2.0", SIZE[2], None), ("1.2.1", SIZE[2], 7)]
    assert "StudyDate=20260131-" in server.asked[0][1]


def test_a_server_that_knows_no_offset_is_not_asked_forever(server):
    page = json.dumps(
        [{module.SERIES: {"Value": ["1.9"]}, module.MODALITY: {"Value": ["CT"]}, module.INSTANCES: {"Value": [3]}}]
    )
    server.answers = [(200, KIND, page.encode())] * 2
    assert [one.name for one in DicomWebSource(server.url, ["CT"]).find()] == ["1.9"] and len(server.asked) == 2


def test_what_is_brought_is_what_lies_there(server, tmp_path):
    source = DicomWebSource(server.url, ["CT"], authorization="Basic YTpi")
    [series] = source.find()
    (tmp_path / "work").mkdir()
    folder = source.bring(series, tmp_path / "work")
    assert folder == tmp_path / "work" / series.key and [path.name for path in folder.parent.iterdir()] == [series.key]
    brought = {file.read_bytes() for file in folder.iterdir()}
    assert brought == {content for uid, content in server.instances.items() if uid.startswith("1.2.1.")}
    assert (read_volume(folder).array == ball(6.0)).all()
    assert {asked[2] for asked in server.asked} == {"Basic YTpi"}


@pytest.mark.parametrize("cut", [3, 30, 4000])
def test_an_answer_that_was_cut_off(server, tmp_path, cut):
    source = DicomWebSource(server.url, ["CT"])
    [series] = source.find()
    server.cut = cut
    with pytest.raises(Unreachable, match="cut off"):
        source.bring(series, tmp_path)


def test_fewer_instances_than_there_should_be(server, tmp_path):
    source = DicomWebSource(server.url, ["CT"])
    [series] = source.find()
    server.instances.pop("1.2.1.3")
    with pytest.raises(Unreachable, match="19 of 20 instances came"):
        source.bring(series, tmp_path)


def test_a_segmentation_is_stored_as_it_is(server, tmp_path):
    file = next(write_ball(tmp_path / "new", "1.2.8", Modality="SEG").iterdir())
    source = DicomWebSource(server.url, ["CT"])
    source.store(file)
    source.store(file)  # as after a kill
    uid = pydicom.dcmread(file).SOPInstanceUID
    assert server.instances[uid] == file.read_bytes()
    assert pydicom.dcmread(io.BytesIO(server.instances[uid])).PatientName == PATIENT


@pytest.mark.parametrize(("reason", "stored"), [(0x0111, True), (0x0110, False)])
def test_a_segmentation_that_the_server_refuses(server, tmp_path, reason, stored):
    failed = {module.FAILED: {"vr": "SQ", "Value": [{module.REASON: {"vr": "US", "Value": [reason]}}]}}
    server.answers = [(202, KIND, json.dumps(failed).encode())]
    (tmp_path / "seg.dcm").write_bytes(b"segmentation")
    source = DicomWebSource(server.url, ["CT"])
    if stored:  # it is there already
        source.store(tmp_path / "seg.dcm")
        return
    with pytest.raises(Unreachable, match="refused"):
        source.store(tmp_path / "seg.dcm")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((401, KIND, b"[]"), "401 Unauthorized"),
        ((500, "text/plain", b"Mueller"), "500 Internal Server Error"),
        ((200, "text/html", b"<html>"), "no JSON"),
        ((200, KIND, b'{"a": 1}'), "no list of series"),
        ((302, KIND, b""), "302 Found"),
    ],
)
def test_answers_that_are_none(server, answer, said):
    server.answers = [answer]
    with pytest.raises(Unreachable, match=said) as caught:
        list(DicomWebSource(server.url, ["CT"], authorization="Basic YTpi").find())
    assert "Mueller" not in str(caught.value)
    assert len(server.asked) == 1  # a password goes where it was meant to go, and nowhere else


def test_nobody_answers():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(Unreachable, match="no answer"):
        list(DicomWebSource(f"http://127.0.0.1:{port}", ["CT"]).find())


@pytest.mark.parametrize("url", ["http://a:b@127.0.0.1/dicom-web", "file:///etc", "http://", "http://h/x?y=1"])
def test_addresses_that_are_refused(url):
    with pytest.raises(InputError, match="wanted"):
        DicomWebSource(url, ["CT"])


def test_parts_may_hold_anything_but_their_boundary(tmp_path):
    contents = [b"\r\n--", b"", b"--abc".join([b"x"] * 2), bytes(range(256))]
    body = b"preamble\r\n" + b"".join(b"--abc\r\nX: y\r\n\r\n" + content + b"\r\n" for content in contents) + b"--abc--"
    (tmp_path / "body").write_bytes(body)
    head = Message()
    head["Content-Type"] = 'multipart/related; boundary="abc"'
    assert list(parts_of(tmp_path / "body", head)) == contents


def test_values_of_dicoms_json():
    item = {"a": {"Value": [3, 4]}, "b": {"vr": "UI"}, "c": {"Value": []}, "d": "none"}
    assert [text(item, tag) for tag in "abcde"] == ["3", "", "", "", ""]
