from __future__ import annotations

import io
import stat
import zipfile

import pytest

from common.errors import InputError
from tools.packing.archive_check import MAX_MEMBERS, check_members, open_archive


def member(name: str, mode: int = 0o100644, **attributes: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("x")
    info.filename = info.orig_filename = name
    info.external_attr = mode << 16
    for key, value in attributes.items():
        setattr(info, key, value)
    return info


def check(*members: zipfile.ZipInfo, size: int = 1000) -> None:
    """Check a zip whose directory says this, whatever zipfile itself would have written."""
    content = io.BytesIO()
    zipfile.ZipFile(content, "w").close()
    archive = zipfile.ZipFile(content)
    archive.filelist = list(members)
    check_members(archive, "x.zip", size)


def test_plain_files_below_one_folder_pass():
    check(member("tiny/LICENSE"), member("tiny/configs/train.json"), member("tiny/a+b-c_d.1.txt", mode=0))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("/etc/passwd", "absolute"),
        ("tiny/../../x", "'..' as a folder"),
        ("..", "'..' as a folder"),
        ("tiny/./x", "'.' as a folder"),
        ("tiny//x", "'' as a folder"),
        ("", "'' as a folder"),
        ("C:/x", "drive letter"),
        ("c:x", "drive letter"),
        ("tiny\\x", "backslash"),
        ("\\\\host\\share", "backslash"),
        ("tiny/", "folder as a member"),
        (".ssh/authorized_keys", "hidden"),
        ("tiny/-rf", "hidden"),
        ("tiny/x\0.json", "hidden"),
        ("tiny/x\n", "hidden"),
        ("tiny/x:stream", "hidden"),
        ("tiny/x ", "hidden"),
        ("tiny/x.", "hidden"),
        ("tiny/\u0441onfigs", "hidden"),
        ("tiny/\u202egnp.py", "hidden"),
        ("tiny/NUL.json", "device's name"),
        ("tiny/com1", "device's name"),
        ("tiny/" + "x" * 201, "200 letters"),
        ("tiny/" + "x/" * 600 + "x", "1000 letters"),
    ],
)
def test_names_that_lead_elsewhere_are_refused(name, said):
    with pytest.raises(InputError, match=said):
        check(member("tiny/LICENSE"), member(name))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"mode": stat.S_IFLNK | 0o777}, "a link"),
        ({"mode": stat.S_IFCHR | 0o644}, "special file"),
        ({"mode": stat.S_IFBLK | 0o644}, "special file"),
        ({"mode": stat.S_IFIFO | 0o644}, "special file"),
        ({"mode": stat.S_IFSOCK | 0o644}, "special file"),
        ({"mode": stat.S_IFDIR | 0o755}, "special file"),
        ({"mode": 0, "external_attr": 0x10}, "special file"),
        ({"flag_bits": 0x1}, "encrypted"),
        ({"flag_bits": 0x40}, "encrypted"),
        ({"flag_bits": 0x2000}, "encrypted"),
        ({"compress_type": zipfile.ZIP_LZMA}, "compression 14"),
        ({"file_size": 9 << 30}, "bytes unpacked"),
        ({"file_size": 100_001}, "times its size"),
    ],
)
def test_what_is_no_plain_file_or_too_large_is_refused(changed, said):
    with pytest.raises(InputError, match=said):
        check(member("tiny/x", **changed))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["tiny/a", "tiny/a"], "there 2 times"),
        (["tiny/a", "tiny/A"], "differ in case"),
        (["tiny/a/x", "tiny/A/y"], "differ in case"),
        (["tiny/a", "tiny/a/x"], "a file and a folder"),
        (["tiny/a", "other/a"], "top folders other, tiny"),
        (["a", "tiny/b"], "top folders"),
        ([], "top folders none"),
    ],
)
def test_files_that_would_be_one_and_two_top_folders_are_refused(names, said):
    with pytest.raises(InputError, match=said):
        check(*[member(name) for name in names])


def test_too_many_members_and_a_shortened_list_of_problems():
    with pytest.raises(InputError, match=f"wanted {MAX_MEMBERS} at most"):
        check(*[member(f"tiny/{n}") for n in range(MAX_MEMBERS + 1)])
    with pytest.raises(InputError) as caught:
        check(*[member(f"tiny/{n}:") for n in range(100)])
    assert len(caught.value.problems) == 21 and caught.value.problems[-1] == "x.zip: 80 problems more"


def test_members_that_overlap_are_a_bomb_though_each_is_small():
    # a thousand names of the same 90 kB in a zip of 100 kB
    with pytest.raises(InputError, match="unpacks to 900 times its size"):
        check(*[member(f"tiny/{n}", file_size=90_000, header_offset=0) for n in range(1000)], size=100_000)


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06", b"no zip at all" * 10])
def test_what_is_no_zip_is_said(content):
    with pytest.raises(InputError, match=r"x\.zip: not a sound zip"), open_archive(io.BytesIO(content), "x.zip"):
        pass
