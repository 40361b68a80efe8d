from __future__ import annotations

import os
import zipfile

import pytest

from common.errors import InputError
from tools.packing.archive import build_time, write_archive


def make(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode() * 50)
    return folder


def test_zip_knows_nothing_of_times_modes_and_the_order_of_creation(tmp_path, monkeypatch):
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    names = ["b/z.txt", "a.txt", "b/a.txt"]
    first, second = make(tmp_path / "1" / "tiny", names), make(tmp_path / "2" / "tiny", names[::-1])
    os.utime(second / "a.txt", (10**9, 10**9))
    os.chmod(second / "a.txt", 0o755)
    write_archive(tmp_path / "1.zip", first)
    write_archive(tmp_path / "2.zip", second)
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "1.zip") as archive:
        assert archive.namelist() == ["tiny/a.txt", "tiny/b/a.txt", "tiny/b/z.txt"]
        assert archive.read("tiny/b/z.txt") == b"b/z.txt" * 50
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {member.external_attr >> 16 for member in archive.infolist()} == {0o100644}


def test_source_date_epoch_is_the_time_of_every_member(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    write_archive(tmp_path / "x.zip", make(tmp_path / "tiny", ["a.txt"]))
    assert zipfile.ZipFile(tmp_path / "x.zip").infolist()[0].date_time == (2023, 11, 14, 22, 13, 20)
    assert build_time() == 1700000000


@pytest.mark.parametrize("text", ["yesterday", "-1", "0", "99999999999", "²"])
def test_a_time_that_no_zip_can_hold_is_refused(monkeypatch, text):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    with pytest.raises(InputError, match="SOURCE_DATE_EPOCH"):
        build_time()
