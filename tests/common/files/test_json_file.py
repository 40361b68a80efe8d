from __future__ import annotations

import time

import pytest

from common.errors import InputError
from common.files import json_file
from common.files.json_file import read_json


def said(path) -> str:
    with pytest.raises(InputError) as error:
        read_json(path, "a list")
    (line,) = error.value.problems
    return line


def test_content_and_a_byte_order_mark(tmp_path):
    (tmp_path / "a.json").write_text('{"a": [1, 2.5, "x"]}', encoding="utf-8-sig")
    assert read_json(tmp_path / "a.json", "a list") == {"a": [1, 2.5, "x"]}


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "the file is empty"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON (nested too deeply)"),
        (b"[" * 500 + b"]" * 500, "is nested over 50 levels deep"),
        (b'{"a":' * 60 + b"1" + b"}" * 60, "is nested over 50 levels deep"),
        (b"[1" + b"0" * 5000 + b"]", "not valid JSON (Exceeds the limit"),
    ],
)
def test_what_is_no_json_of_a_person(tmp_path, content, line):
    (tmp_path / "a.json").write_bytes(content)
    found = said(tmp_path / "a.json")
    assert found.startswith(f"{tmp_path}/a.json: {line}") and found.endswith("wanted a list") and "\n" not in found


def test_too_large_is_seen_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(json_file, "LARGEST", 1 << 20)
    (tmp_path / "a.json").write_bytes(b"[" + b" " * (2 << 20) + b"]")
    assert said(tmp_path / "a.json").endswith("a.json: has 2 MiB; wanted a list of 1 MiB at most")
    assert "No such file" in said(tmp_path / "none.json")


def test_the_largest_takes_seconds(tmp_path):
    (tmp_path / "a.json").write_text("[" + ",".join(["[1,0]"] * 1_000_000) + "]")
    start = time.perf_counter()
    assert len(read_json(tmp_path / "a.json", "a list")) == 1_000_000
    assert time.perf_counter() - start < 20
