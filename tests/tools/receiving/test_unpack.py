from __future__ import annotations

import hashlib
import json
import os
import stat
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from common.errors import InputError, plain_input_errors
from tools.packing.checksums import as_text
from tools.signature import make_keys, read_secret_key, sign
from tools.unpack import main, unpack, verify

ROOT = Path(__file__).resolve().parents[3]
FILES = {"LICENSE": b"free", "configs/metadata.json": b'{"version": "0.1.0"}', "scripts/network.py": b"x = 1\n"}


def make_zip(path: Path, files=FILES, sums=None, top="tiny", compression=zipfile.ZIP_STORED) -> Path:
    """Write a sound zip, or one whose SHA256SUMS says `sums`; a name that begins with / stands outside the folder."""
    if sums is None:
        sums = as_text({name: hashlib.sha256(content).hexdigest() for name, content in files.items()})
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in {**files, "SHA256SUMS": sums}.items():
            archive.writestr(name if name.startswith("/") else f"{top}/{name}", content)
    return path


def refused(path: Path, said: str) -> None:
    """Both ways in refuse it with these words, and nothing at all is written."""
    place = path.parent / "place"
    before = sorted(path.parent.rglob("*"))
    for attempt in (lambda: verify(path), lambda: unpack(path, place)):
        with pytest.raises(InputError, match=said):
            attempt()
    assert sorted(path.parent.rglob("*")) == before


def test_a_sound_zip_is_placed_under_its_name(tmp_path):
    path = make_zip(tmp_path / "x.zip")
    assert str(verify(path)) == "tiny 0.1.0: 4 files as in SHA256SUMS, signature not checked"
    folder, checked = unpack(path, tmp_path / "new" / "place")
    assert folder == tmp_path / "new" / "place" / "tiny" and checked.files == 4
    found = {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    assert found.pop("SHA256SUMS") and found == FILES
    assert os.listdir(tmp_path / "new" / "place") == ["tiny"]
    assert not any(file.stat().st_mode & 0o111 for file in folder.rglob("*") if file.is_file())


def test_what_is_there_already_stays(tmp_path):
    path = make_zip(tmp_path / "x.zip")
    (tmp_path / "place" / "tiny").mkdir(parents=True)
    with pytest.raises(InputError, match="already there"):
        unpack(path, tmp_path / "place")
    (tmp_path / "place" / "tiny").rmdir()
    (tmp_path / "place" / "tiny").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="already there"):
        unpack(path, tmp_path / "place")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../../evil", r"'..' as a folder"),
        ("/tmp/evil", "absolute path"),
        ("C:/evil", "hidden name or one"),
        ("a\\..\\evil", "backslash"),
        ("Configs/x", "differ in case"),
        ("license", "differ in case"),
        ("LICENSE/x", "a file and a folder"),
        (".ssh/authorized_keys", "hidden"),
    ],
)
def test_names_that_lead_elsewhere_write_nothing(tmp_path, name, said):
    refused(make_zip(tmp_path / "x.zip", {**FILES, name: b"evil"}), said)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_and_devices_write_nothing(tmp_path, kind):
    path = make_zip(tmp_path / "x.zip")
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo("tiny/configs/link")
        info.external_attr = (kind | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    refused(path, "wanted a plain file")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice_writes_nothing(tmp_path):
    path = make_zip(tmp_path / "x.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("tiny/LICENSE", b"another")
    refused(path, "there 2 times")


def test_encrypted_members_write_nothing(tmp_path):
    path = make_zip(tmp_path / "x.zip")
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at + 8] |= 1
    path.write_bytes(content)
    refused(path, "encrypted")


def test_a_bomb_writes_nothing(tmp_path):
    zeros = {**FILES, "zeros.txt": bytes(5_000_000)}
    refused(make_zip(tmp_path / "x.zip", zeros, compression=zipfile.ZIP_DEFLATED), "times its size")


def test_a_member_that_is_larger_than_it_says_writes_nothing(tmp_path):
    path = make_zip(tmp_path / "x.zip", {**FILES, "zeros.txt": bytes(5_000_000)}, compression=zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = content.find(signature)
        while at >= 0:  # every member that says 5 million bytes says 5 thousand
            if struct.unpack_from("<I", content, at + offset)[0] == 5_000_000:
                struct.pack_into("<I", content, at + offset, 5_000)
            at = content.find(signature, at + 4)
    path.write_bytes(content)
    refused(path, "not a sound zip")


def test_files_without_a_sum_without_a_file_and_with_a_wrong_sum(tmp_path):
    right = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    refused(make_zip(tmp_path / "1.zip", {**FILES, "x.py": b""}, as_text(right)), "x.py: not in SHA256SUMS")
    refused(make_zip(tmp_path / "2.zip", FILES, as_text({**right, "x.py": "0" * 64})), "x.py: missing")
    refused(
        make_zip(tmp_path / "3.zip", FILES, as_text({**right, "LICENSE": "0" * 64})), "LICENSE: sha256 .* wanted 000"
    )
    refused(make_zip(tmp_path / "4.zip", FILES, "nonsense"), "line 1")
    refused(make_zip(tmp_path / "5.zip", FILES, b" " * (5 << 20)), "SHA256SUMS of 5242880 bytes")
    with zipfile.ZipFile(tmp_path / "6.zip", "w") as archive:
        archive.writestr("tiny/LICENSE", b"free")
    refused(tmp_path / "6.zip", "no tiny/SHA256SUMS")


@pytest.mark.parametrize("metadata", [b"[]", b"{}", b'{"version": 1}', b'{"version": "\\u001b[2J"}', b"[" * 100_000])
def test_metadata_that_is_none_writes_nothing(tmp_path, metadata):
    refused(make_zip(tmp_path / "x.zip", {**FILES, "configs/metadata.json": metadata}), "version")


def test_every_changed_byte_of_content_is_found(tmp_path):
    path = make_zip(tmp_path / "x.zip")
    content = path.read_bytes()
    at = content.index(b"x = 1")
    path.write_bytes(content[:at] + b"y" + content[at + 1 :])
    refused(path, "not a sound zip")
    path.write_bytes(content[: len(content) // 2])
    refused(path, "not a sound zip")
    path.unlink()
    refused(path, "can't be read")


def test_a_disk_that_fails_midway_leaves_nothing(tmp_path, monkeypatch):
    path = make_zip(tmp_path / "x.zip")

    def fail(*names):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tools.unpack.os.rename", fail)
    with pytest.raises(InputError, match="No space left"):
        unpack(path, tmp_path / "place")
    assert list((tmp_path / "place").iterdir()) == []


def test_a_key_makes_a_signature_wanted(tmp_path):
    path, public = make_zip(tmp_path / "x.zip"), make_keys(tmp_path / "key", "")
    with pytest.raises(InputError, match="minisig"):
        unpack(path, tmp_path / "place", public)
    sign(path, read_secret_key(tmp_path / "key"))
    assert verify(path, public).signed == "file:x.zip\thashed"
    make_zip(path, {**FILES, "LICENSE": b"other"})  # sound in itself, but not what was signed
    assert verify(path).signed is None
    with pytest.raises(InputError, match="signature verification failed"):
        unpack(path, tmp_path / "place", public)
    assert not (tmp_path / "place").exists()


def test_command_line(tmp_path, capsys):
    path = make_zip(tmp_path / "x.zip")
    assert main(["--verify", str(path)]) == 0
    assert main([str(path), str(tmp_path / "place")]) == 0
    assert capsys.readouterr().out.count("tiny 0.1.0: 4 files") == 2
    for wrong in ([str(path)], [str(path), str(tmp_path), "--verify"]):
        with pytest.raises(SystemExit) as stopped:
            main(wrong)
        assert stopped.value.code == 2


FORGED = "x\x1b[2K\rerror: none\n\u202e\x9b1A"


@pytest.mark.parametrize("place", ["member", "sums"])
def test_names_give_a_terminal_no_commands(tmp_path, capsys, place):
    right = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    if place == "member":
        path = make_zip(tmp_path / "x.zip", {**FILES, FORGED: b"", FORGED.upper(): b"", f"{FORGED}/y": b""})
    else:
        path = make_zip(
            tmp_path / "x.zip", FILES, as_text({**right, FORGED.replace("\n", "").replace("\r", ""): "0" * 64})
        )
    with pytest.raises(InputError) as error:
        verify(path)
    sys.excepthook, before = sys.__excepthook__, sys.excepthook
    try:
        plain_input_errors()
        sys.excepthook(InputError, error.value, None)
    finally:
        sys.excepthook = before
    lines = capsys.readouterr().err.removesuffix("\n").split("\n")
    assert len(lines) == len(error.value.problems)
    assert all(line.startswith("error: x.zip: ") and line.isprintable() for line in lines)
    assert any("\\x1b[2K" in line for line in lines)


def test_it_needs_nothing_but_python_and_says_errors_in_plain_lines(tmp_path):
    path = make_zip(tmp_path / "x.zip", {**FILES, "configs/metadata.json": json.dumps({}).encode()})
    command = [sys.executable, "-I", "-S", "-c"]  # no site-packages
    code = f"import sys, runpy; sys.path.insert(0, {str(ROOT)!r}); sys.argv = ['unpack', '--verify', {str(path)!r}]; "
    done = subprocess.run(
        [*command, code + "runpy.run_module('tools.unpack', run_name='__main__')"], capture_output=True
    )
    assert done.returncode == 1
    assert done.stderr.decode().startswith("error: x.zip: tiny/configs/metadata.json without a version")
