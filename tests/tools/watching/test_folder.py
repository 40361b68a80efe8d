from __future__ import annotations

import os
import re
import shutil
import time

import pydicom
import pytest

from common.volumes.read import read_volume
from support.data.bright_ball import SIZE, write_ball
from tools.watching import folder as module
from tools.watching.folder import FolderSource, link


@pytest.fixture
def incoming(tmp_path):
    """Two CT series in one folder at some depth, an SEG, a report and other files beside them."""
    deep = tmp_path / "in" / "Mueller" / "study"
    deep.mkdir(parents=True)
    for uid, number in (("1.2.1", {"SeriesNumber": 0}), ("1.2.2", {})):
        for file in write_ball(tmp_path / "made" / uid, uid, SeriesDescription="Liver art", **number).iterdir():
            shutil.move(file, deep / f"{uid}_{file.name}")
    write_ball(tmp_path / "in" / "seg", "1.2.3", Modality="SEG")
    (tmp_path / "in" / "notes.txt").write_text("no scan")
    return tmp_path / "in"


def test_series_are_told_apart_by_their_headers(incoming):
    source = FolderSource(incoming, ["CT", "MR"])
    found = {series.name: series for series in source.find()}
    assert found.keys() == {"1.2.1", "1.2.2"} and source.unreadable == 0
    assert [found[uid].mark for uid in sorted(found)] == [SIZE[2]] * 2
    assert (found["1.2.1"].number, found["1.2.2"].number) == (0, None)
    assert all(0 <= series.age < 60 for series in found.values())


def test_only_what_is_described_as_wanted(incoming):
    assert len(list(FolderSource(incoming, ["CT"], re.compile("liver", re.IGNORECASE)).find())) == 2
    assert not list(FolderSource(incoming, ["CT"], re.compile("lung")).find())
    assert [series.name for series in FolderSource(incoming, ["SEG"]).find()] == ["1.2.3"]


def test_a_header_is_read_again_only_where_the_file_changed(incoming, monkeypatch):
    source, read = FolderSource(incoming, ["CT"]), []
    monkeypatch.setattr(module, "is_dicom", lambda path: not read.append(path) and path.suffix == ".dcm")
    list(source.find())
    first = len(read)
    list(source.find())
    assert len(read) == first == 3 * SIZE[2] + 1
    file = next(incoming.rglob("1.2.1_*"))
    item = pydicom.dcmread(file)
    item.SeriesInstanceUID = "1.2.77"
    item.save_as(file)
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 10**9))
    assert {series.name: series.mark for series in source.find()} == {"1.2.1": 19, "1.2.2": 20, "1.2.77": 1}
    assert len(read) == first + 1


def test_a_file_that_lies_there_twice_is_one_instance(incoming):
    (incoming / "copy").mkdir()
    for file in list(incoming.rglob("1.2.1_*")):
        shutil.copy(file, incoming / "copy")
    assert {series.name: series.mark for series in FolderSource(incoming, ["CT"]).find()} == {"1.2.1": 20, "1.2.2": 20}


def test_the_age_is_that_of_the_newest_file_whatever_a_copy_keeps(incoming):
    files = list(incoming.rglob("1.2.1_*"))
    for file in files:
        os.utime(file, (1e9, 1e9))  # as `cp -p` does; when the file came stands in its ctime
    found = {series.name: series.age for series in FolderSource(incoming, ["CT"]).find()}
    assert found["1.2.1"] < 60
    os.utime(files[0], (time.time() + 3600,) * 2)
    found = {series.name: series.age for series in FolderSource(incoming, ["CT"]).find()}
    assert found["1.2.1"] < -3500


def test_files_of_volumes_and_copies_under_way(incoming):
    for name in ("a.nii.gz", "b.NRRD", ".c.nii.gz.X7", ".hidden/d.nii", "e.mhd"):
        (incoming / name).parent.mkdir(exist_ok=True)
        (incoming / name).write_bytes(b"voxels")
    found = {series.name: series for series in FolderSource(incoming, ["MR"]).find()}
    assert found.keys() == {"a.nii.gz", "b.NRRD"}
    assert found["a.nii.gz"].mark == (incoming / "a.nii.gz").stat().st_mtime_ns


def test_a_broken_file_is_counted_and_no_series(incoming):
    (incoming / "broken.dcm").write_bytes(bytes(128) + b"DICM" + b"\x08\x00\x60\x00CS\xff\xff no more")
    (file,) = incoming.rglob("1.2.2_000.dcm")
    item = pydicom.dcmread(file)
    item.SeriesInstanceUID = ""
    item.save_as(file)
    source = FolderSource(incoming, ["CT"])
    assert {series.name: series.mark for series in source.find()} == {"1.2.1": 20, "1.2.2": 19}
    assert source.unreadable == 2


@pytest.mark.parametrize("links", [True, False])
def test_what_is_laid_out_tells_no_name_and_is_the_series(incoming, tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(module.Path, "symlink_to", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    work = tmp_path / "work"
    work.mkdir()
    source = FolderSource(incoming, ["CT"])
    series = next(series for series in source.find() if series.name == "1.2.1")
    folder = source.bring(series, work)
    assert folder == work / series.key and len(list(folder.iterdir())) == series.mark
    assert all(re.fullmatch(r"\d{5}\.dcm", file.name) for file in folder.iterdir())
    assert read_volume(folder).array.shape == SIZE
    assert any(file.is_symlink() for file in folder.iterdir()) == links


def test_a_file_keeps_its_ending(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "Mueller.Anna.NII.GZ").write_bytes(b"voxels")
    source = FolderSource(tmp_path / "in", ["CT"])
    [series] = source.find()
    brought = source.bring(series, tmp_path)
    assert brought == tmp_path / f"{series.key}.nii.gz" and brought.read_bytes() == b"voxels"


def test_a_link_leads_there_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("it")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path)
    assert link(module.Path("a"), module.Path("below/b")).read_text() == "it"
