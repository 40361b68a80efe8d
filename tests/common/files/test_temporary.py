from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from common.files import temporary
from common.files.temporary import OLD, PREFIX, machine, remove_leftovers, temporary_beside


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-B", "-c", ""])
    process.wait()
    return process.pid


def left(folder, pid, of=None, name="a_seg.nii.gz"):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{PREFIX}{of or machine()}-{pid}-1f-{name}"
    path.write_bytes(b"half")
    return path


def test_a_name_keeps_the_extension_and_fits_a_file_system(tmp_path):
    first, second = temporary_beside(tmp_path / "a_seg.nii.gz"), temporary_beside(tmp_path / "a_seg.nii.gz")
    assert first != second and first.parent == tmp_path and first.name.endswith("-a_seg.nii.gz")
    long = temporary_beside(tmp_path / ("ö" * 120 + ".nii.gz"))
    long.write_bytes(b"")  # 255 bytes are the most
    assert long.name.endswith(".nii.gz")


def test_what_a_dead_process_left_goes_and_nothing_else(tmp_path):
    gone = [left(tmp_path, dead_process()), left(tmp_path / "labels" / "1a2b" / "round_1", dead_process())]
    building = tmp_path / f"{PREFIX}{machine()}-{dead_process()}-1f-sample"
    (building / "imagesTr").mkdir(parents=True)
    kept = [left(tmp_path, os.getpid()), left(tmp_path, dead_process(), of="00000000"), tmp_path / "a_seg.nii.gz"]
    kept[-1].write_bytes(b"whole")
    kept.append(left(tmp_path / "1" / "2" / "3" / "4" / "5", dead_process()))  # no run writes that deep
    assert set(remove_leftovers(tmp_path)) == {*gone, building}
    assert all(path.exists() for path in kept) and not any(path.exists() for path in (*gone, building))


def test_what_nobody_can_be_asked_about_goes_when_it_is_old(tmp_path):
    paths = [left(tmp_path, os.getpid()), left(tmp_path, 1, of="00000000"), tmp_path / f"{PREFIX}x"]
    paths[-1].write_bytes(b"")
    for path in paths:
        os.utime(path, (time.time() - OLD - 60,) * 2)
    assert set(remove_leftovers(tmp_path)) == set(paths)


def test_the_folder_alone(tmp_path):
    below = left(tmp_path / "case", dead_process())
    assert remove_leftovers(tmp_path, depth=0) == [] and below.exists()
    assert remove_leftovers(tmp_path / "nowhere") == []


@pytest.mark.parametrize(("error", "alive"), [(ProcessLookupError, False), (PermissionError, True)])
def test_a_process_of_another_user_is_alive(monkeypatch, error, alive):
    def fail(pid):
        raise error

    monkeypatch.setattr(os, "getpgid", fail)
    assert temporary.is_alive(1) is alive
