from __future__ import annotations

import os
import stat

import pytest

from common.errors import InputError
from common.files.atomic_write import write_atomic


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
