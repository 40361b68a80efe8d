"""The command as it is given: what it refuses, what its log holds, and how it ends."""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from common.errors import InputError
from support.bundle.path import BUNDLES, import_bundle
from support.clients.dicomweb_server import dicomweb_server
from support.data.bright_ball import ID, PATIENT, write_ball
from support.data.dicom_series import move_slices
from support.networks.bright_model import CHANNELS, save_model
from tools import watch
from tools.watching.folder import FolderSource
from tools.watching.journal import Journal
from tools.watching.merged_review import read_rows
from tools.watching.series import Part, Series
from tools.watching.service import Service

FLAGS = ["--channels", str(CHANNELS["channels"]).replace(" ", ""), "--output", CHANNELS["output"], "--device", "cpu"]


@pytest.fixture
def words(tmp_path, monkeypatch):
    """The words of a command that holds a model which finds what is bright; writes into tmp_path/out."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "path", list(sys.path))
    import_bundle("rrl_medsam")
    model = save_model(tmp_path / "model.pt", [0, 1])
    own = ["--bundle", str(BUNDLES / "rrl_medsam"), "--output_dir", str(tmp_path / "out"), "--settle", "0", "--once"]
    return [*own, "--ckpt_path", str(model), *FLAGS]


@pytest.fixture
def incoming(tmp_path):
    """A series, and one with a gap, in folders and files that are named by the patient."""
    good = write_ball(tmp_path / "Mueller" / "first", "1.2.1", SeriesNumber=4)
    bad = move_slices(write_ball(tmp_path / "Mueller" / "second", "1.2.2"), {n: (0, 0, 30) for n in range(10, 20)})
    for file in [*good.iterdir(), *bad.iterdir()]:
        file.rename(file.with_name(f"Mueller_{file.name}"))
    return tmp_path / "Mueller"


def test_series_in_segmentations_out_and_no_name_in_the_log(words, incoming, tmp_path, capfd):
    assert watch.main([str(incoming), *words]) == 0
    said = capfd.readouterr()
    good, bad = Series("1.2.1", 1).key, Series("1.2.2", 1).key
    lines = [line.split(" ", 1)[1] for line in said.out.splitlines()]
    assert lines[0].startswith("begun: 0 series done before") and lines[-1] == "ended: 1 series segmented, 1 not"
    assert any(line.startswith(f"{good} (series 4)  ") and line.endswith("ml  look: no") for line in lines)
    assert sum(line.startswith(f"{bad}  ") and "a gap of 33 mm between 000" in line for line in lines) == 3
    parts = [*PATIENT.split("^"), ID, "1.2.1", "1.2.2", str(tmp_path)]
    assert said.err == "" and not [part for part in parts if part in said.out]
    assert {path.name for path in (tmp_path / "out" / good).iterdir()} == {
        f"{good}_seg.dcm", f"{good}_seg.nii.gz", "review.csv", "review.html", "series.json"
    }  # fmt: skip
    rows = read_rows(tmp_path / "out" / "review.csv")
    assert [row["case"] for row in rows] == [bad, good] and "not segmented: a gap" in rows[0]["why"]
    assert watch.main([str(incoming), *words]) == 0
    said = capfd.readouterr().out
    assert "begun: 2 series done before" in said and "ended: 0 series segmented, 0 not" in said


def test_beside_a_server(words, incoming, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("DICOMWEB_AUTHORIZATION", "Basic YTpi")
    with dicomweb_server() as server:
        server.add_folder(incoming / "first")
        assert watch.main([server.url, *words, "--since", "20260101"]) == 0
        [stored] = server.of_modality("SEG")
        assert stored.StudyInstanceUID == "1.2.9" and stored.PatientName == PATIENT
        assert {authorization for _, _, authorization in server.asked} == {"Basic YTpi"}
    assert "stored" in capfd.readouterr().out


def test_an_error_that_nobody_expected_is_told_without_its_text(words, tmp_path, capfd, monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("Mueller")

    monkeypatch.setattr(Service, "run", fail)
    (tmp_path / "in").mkdir()
    assert watch.main([str(tmp_path / "in"), *words]) == 1
    said = capfd.readouterr()
    assert "ended by RuntimeError in test_watch.py, line" in said.out and "Mueller" not in said.out + said.err


def test_the_first_signal_ends_gently_and_the_second_at_once():
    before, said = signal.getsignal(signal.SIGTERM), io.StringIO()
    with pytest.raises(KeyboardInterrupt), watch.ending(Journal(said)) as stop:
        assert not stop.is_set()
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_set() and "SIGTERM: ends after the series at hand" in said.getvalue()
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before


def options(source, output_dir, **changes):
    given = {"modality": "CT, mr", "description": None, "since": None, "no_store": False}
    return argparse.Namespace(source=str(source), output_dir=Path(output_dir), **{**given, **changes})


def test_what_is_watched(tmp_path):
    source = watch.open_source(options(tmp_path, "elsewhere"), {})
    assert isinstance(source, FolderSource) and source.modalities == {"CT", "MR"}
    web = watch.open_source(options("HTTP://127.0.0.1/dicom-web", "elsewhere", since="20260131"), {})
    assert list(web.modalities) == ["CT", "MR"] and web.since == "20260131"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"description": "("}, "wanted a regular expression"),
        ({"modality": " ,"}, "wanted such as CT,MR,PT"),
        ({"since": "20260131"}, "for DICOMweb servers"),
        ({"no_store": True}, "for DICOMweb servers"),
        ({"source": "http://127.0.0.1", "since": "yesterday"}, "wanted a date such as"),
        ({"source": "nowhere"}, "no such folder; wanted one, or an address"),
        ({"output_dir": "in/out"}, "whose files would count as new"),
    ],
)
def test_what_is_refused(home, changes, said):
    Path("in").mkdir()
    given = options(changes.pop("source", "in"), changes.pop("output_dir", "elsewhere"), **changes)
    with pytest.raises(InputError, match=said):
        watch.open_source(given, {})


@pytest.mark.parametrize("word", ["--settle=-1", "--poll=0", "--tries=0", "--part=3/2"])
def test_numbers_that_are_none(tmp_path, word):
    with pytest.raises(InputError, match="wanted"):
        watch.main([str(tmp_path), "--bundle", "b", "--output_dir", "o", word])


def test_each_process_of_torchrun_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert watch.own_device(Part(4, 4), {"LOCAL_RANK": "3"}) == "cuda:1"
    assert watch.own_device(Part(2, 4), {}) is None and watch.own_device(Part(), {"LOCAL_RANK": "0"}) is None


def test_no_option_hides_a_key_of_a_bundle(capsys):
    with pytest.raises(SystemExit):
        watch.main(["--help"])
    told = {word.strip("[],").lstrip("-") for word in capsys.readouterr().out.split() if word.startswith(("--", "[--"))}
    keys = {key for path in BUNDLES.glob("*/configs/*inference.json") for key in json.loads(path.read_text())}
    assert {"bundle", "once", "no-store"} <= told and told & keys == {"output_dir", "device"}  # the latter in its text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that begin as copies")
def test_a_kill_and_then_a_gentle_end(words, tmp_path, capfd):
    keys = set()
    for number in range(2):
        write_ball(tmp_path / "in" / f"Mueller_{number}", f"1.2.{number}")
        keys.add(Series(f"1.2.{number}", 1).key)
    words.remove("--once")

    def done():
        return {path.parent.name for path in (tmp_path / "out").glob("*/series.json")}

    def when(enough, process, end):
        limit = time.monotonic() + 300
        while not enough() and time.monotonic() < limit:
            time.sleep(0.01)
        os.kill(process, end)

    child = os.fork()
    if not child:
        watch.main([str(tmp_path / "in"), *words])
        os._exit(1)
    when(done, child, signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    before = {key: (tmp_path / "out" / key).stat().st_ino for key in done()}
    assert before
    threading.Thread(target=when, args=(lambda: done() == keys, os.getpid(), signal.SIGTERM)).start()
    assert watch.main([str(tmp_path / "in"), *words]) == 0
    assert f"ended: {2 - len(before)} series segmented, 0 not" in capfd.readouterr().out
    assert {key: (tmp_path / "out" / key).stat().st_ino for key in before} == before
    assert {row["case"] for row in read_rows(tmp_path / "out" / "review.csv")} == keys
