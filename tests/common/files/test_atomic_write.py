from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.errors import InputError
from common.files.atomic_write import write_atomic
from common.files.temporary import remove_leftovers


def test_writes_text_and_bytes_into_a_new_folder(tmp_path):
    assert write_atomic(tmp_path / "new" / "a.txt", "ä").read_bytes() == "ä".encode()
    assert write_atomic(str(tmp_path / "new" / "b.bin"), b"\x00\xff").read_bytes() == b"\x00\xff"
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a.txt", "b.bin"]


def test_a_file_name_that_is_no_utf8_does_not_stop_the_report(tmp_path):
    assert write_atomic(tmp_path / "a", os.fsdecode(b"case\xff")).read_text(encoding="utf-8") == "case?"


def test_others_may_read_what_umask_allows(tmp_path):
    before = os.umask(0o022)
    try:
        assert stat.S_IMODE(write_atomic(tmp_path / "a", "x").stat().st_mode) == 0o644
    finally:
        os.umask(before)


def test_interrupted_write_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    path = write_atomic(tmp_path / "a", "old")

    def disk_full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(InputError, match=r"a: can't be written \(No space left on device\)"):
        write_atomic(path, "new")
    assert path.read_text(encoding="utf-8") == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/run\.json: can't be written"):
        write_atomic(tmp_path / "file" / "run.json", "x")


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("links", [True, False])
def test_what_is_replaced_is_kept(tmp_path, monkeypatch, links):
    def no_links(*paths):
        raise OSError(95, "Operation not supported")

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    path, previous = tmp_path / "model.pt", tmp_path / "model.previous.pt"
    for text in ("one", "two", "three"):
        write_atomic(path, text, previous)
        assert path.read_text() == text
    assert previous.read_text() == "two" and names_in(tmp_path) == ["model.previous.pt", "model.pt"]
    write_atomic(path, "three", previous)  # the end of a run that is done again
    assert previous.read_text() == "two"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize(
    ("module", "step", "number"),
    [("os", "fsync", 1), ("os", "replace", 1), ("os", "replace", 2), ("shutil", "copy2", 1)],
)
def test_a_whole_file_is_there_at_every_step_that_fails(tmp_path, monkeypatch, error, module, step, number):
    path, previous = tmp_path / "model.pt", tmp_path / "model.previous.pt"
    write_atomic(path, "one", previous)
    write_atomic(path, "two", previous)
    owner = {"os": os, "shutil": shutil}[module]
    work, calls = getattr(owner, step), []

    def fail(*arguments, **options):
        calls.append(path.read_text())  # it is there whenever something is done
        if len(calls) == number:
            raise error
        return work(*arguments, **options)

    def no_links(*paths):
        raise OSError(95, "Operation not supported")

    if step == "copy2":
        monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(owner, step, fail)
    with pytest.raises(InputError if isinstance(error, OSError) else KeyboardInterrupt):
        write_atomic(path, "three", previous)
    assert len(calls) == number and path.read_text() == "two"
    assert previous.read_text() in ("one", "two") and names_in(tmp_path) == ["model.previous.pt", "model.pt"]


def test_kills_in_a_tight_loop_leave_a_whole_file(tmp_path):
    path, previous = tmp_path / "model.pt", tmp_path / "model.previous.pt"
    program = (
        "import sys\nfrom common.files.atomic_write import write_atomic\nnumber = 0\n"
        "while True:\n    number += 1\n    write_atomic(sys.argv[1], b'%6d' % number * 20000, sys.argv[2])\n"
        "    print(flush=True) if number == 1 else None\n"
    )
    write_atomic(path, b"     0" * 20000)
    for wait in range(20):
        command = [sys.executable, "-B", "-c", program, str(path), str(previous)]
        process = subprocess.Popen(command, cwd=Path(__file__).resolve().parents[3], stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(0.003 * wait)
        process.kill()
        process.communicate()
        for found in (path.read_bytes(), previous.read_bytes()):
            assert len(found) == 120000 and found == found[:6] * 20000
    remove_leftovers(tmp_path)
    assert names_in(tmp_path) == ["model.previous.pt", "model.pt"]
