from __future__ import annotations

import hashlib
import shutil
import subprocess

import pytest

from common.errors import InputError
from tools.packing.checksums import FILE, as_text, parse_sums, sums_of


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.txt").write_bytes(b"x")
    (tmp_path / "a.txt").write_bytes(b"")
    return tmp_path


def test_sums_are_sha256_of_all_files_but_their_own(folder):
    (folder / FILE).write_text("old")
    wanted = {"a.txt": hashlib.sha256(b"").hexdigest(), "b/x.txt": hashlib.sha256(b"x").hexdigest()}
    assert sums_of(folder) == wanted
    assert parse_sums(as_text(wanted).encode(), FILE) == wanted


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_sha256sum_reads_them(folder):
    (folder / FILE).write_text(as_text(sums_of(folder)))
    assert subprocess.run(["sha256sum", "--check", "--strict", "--quiet", FILE], cwd=folder).returncode == 0
    (folder / "a.txt").write_text("changed")
    assert subprocess.run(["sha256sum", "--check", "--quiet", FILE], cwd=folder, capture_output=True).returncode == 1


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"nonsense\n",
        b"0" * 63 + b"  a.txt\n",
        b"0" * 64 + b" *a.txt\n",
        b"0" * 64 + b"  a.txt\n" + b"1" * 64 + b"  a.txt\n",
        b"\xff" * 64 + b"  a.txt\n",
    ],
)
def test_anything_else_is_refused(text):
    with pytest.raises(InputError, match=FILE):
        parse_sums(text, FILE)
