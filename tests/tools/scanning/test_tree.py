from __future__ import annotations

import io
import zipfile

import pytest

from common.errors import InputError
from tools.scanning.findings import AllowList
from tools.scanning.tree import judge_member, read_tree

ALLOW = AllowList(links={"scripts/common": "../../common"})


def write_zip(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for member, content in members:
            archive.writestr(member, content)
    return path


def test_folders_and_zips_list_the_same_files(tmp_path):
    files = {"configs/a.json": b"{}", "LICENSE": b"x" * 100}
    for name, content in files.items():
        (tmp_path / "one" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "one" / name).write_bytes(content)
    packed = write_zip(tmp_path / "one.zip", [("one/", b""), *((f"one/{k}", v) for k, v in files.items())])
    for source in (tmp_path / "one", packed):
        tree = read_tree(source, ALLOW)
        assert {path: entry.read() for path, entry in tree.entries.items()} == files
        assert [entry.size for entry in tree.entries.values()].count(100) == 1
        assert tree.findings == []
    with read_tree(packed, ALLOW).entries["LICENSE"].open() as file:
        assert file.seek(50) == 50 and file.read() == b"x" * 50


def test_only_the_listed_link_is_followed(tmp_path):
    (tmp_path / "bundles/one/scripts").mkdir(parents=True)
    (tmp_path / "bundles/common").mkdir()
    (tmp_path / "bundles/common/a.py").write_text("x = 1")
    (tmp_path / "bundles/one/scripts/common").symlink_to("../../common")
    tree = read_tree(tmp_path / "bundles/one", ALLOW)
    assert list(tree.entries) == ["scripts/common/a.py"]
    assert [(f.where, f.allowed) for f in tree.findings] == [("scripts/common", True)]
    tree = read_tree(tmp_path / "bundles/one", AllowList())
    assert not tree.entries and [(f.where, f.allowed) for f in tree.findings] == [("scripts/common", False)]


def info(name: str, mode: int = 0o100644, **attributes) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo("x")
    member.filename = member.orig_filename = name
    member.external_attr = mode << 16
    for key, value in attributes.items():
        setattr(member, key, value)
    return member


@pytest.mark.parametrize(
    "member",
    [
        *(info("/etc/x"), info("../x"), info("a/../../x"), info("a//x"), info("./x"), info("C:/x"), info("a\\x")),
        *(info("a/x", 0o120777), info("a/x", 0o020666), info("a/x", 0o010666), info("a/x", 0o104755)),
        *(info("a/x", flag_bits=1), info("a/x", compress_type=12), info("a/x", orig_filename="a/x\0.txt")),
        *(info("a/x", file_size=1 << 40, compress_size=1 << 40), info("a/x", file_size=1 << 30, compress_size=1 << 20)),
    ],
    ids=lambda member: f"{member.filename}-{member.external_attr >> 16:o}",
)
def test_members_that_are_refused(member):
    assert judge_member(member)


def test_members_that_are_fine():
    assert judge_member(info("a/x.json")) == judge_member(info("a/b/", 0o040755)) == judge_member(info("a/x", 0)) == []
    assert judge_member(info("a/x", file_size=1000, compress_size=1)) == []


def test_names_that_are_there_twice_are_found(tmp_path):
    path = write_zip(tmp_path / "a.zip", [("a/x.json", b"1"), ("a/X.json", b"2"), ("a/y", b"3")])
    tree = read_tree(path, ALLOW)
    assert list(tree.entries) == ["x.json", "y"]
    assert [(f.where, f.allowed) for f in tree.findings] == [("X.json", False)]


def test_two_folders_at_the_top_are_found(tmp_path):
    tree = read_tree(write_zip(tmp_path / "a.zip", [("a/x", b"1"), ("b/x", b"2")]), ALLOW)
    assert [f.kind for f in tree.findings] == ["archive"] and set(tree.entries) == {"a/x", "b/x"}


def test_what_is_no_bundle_is_an_error(tmp_path):
    (tmp_path / "text").write_text("x")
    (tmp_path / "empty").mkdir()
    buffer = io.BytesIO()
    zipfile.ZipFile(buffer, "w").close()
    (tmp_path / "empty.zip").write_bytes(buffer.getvalue())
    for name in ("text", "empty", "empty.zip", "nothing"):
        with pytest.raises(InputError, match="wanted a bundle"):
            read_tree(tmp_path / name, ALLOW)
