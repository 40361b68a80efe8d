"""The files of a bundle, from a folder or a zip, listed without unpacking, following or opening anything special."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from common.errors import InputError

from .findings import AllowList, Finding

MOST_FILES = 20_000
LARGEST = 8 << 30  # bytes of one file
HIGHEST_RATIO = 200  # of unpacked to packed
SMALL = 1 << 20  # a small file may be compressed any well
NOT_PACKED = ("cache", "data", "eval")
PACKED_MODELS = ("model.pt", "model.ts", "model.safetensors")


@dataclass(frozen=True)
class Entry:
    """One file of a bundle: its path from the bundle's folder, its size in bytes, and how to open it (seekable)."""

    path: str
    size: int
    open: Callable[[], IO[bytes]]
    executable: bool = False

    def read(self) -> bytes:
        with self.open() as file:
            return file.read()


@dataclass
class Tree:
    """The files that can be looked into, and what was wrong with the way they are stored."""

    entries: dict[str, Entry]
    findings: list[Finding]


def read_tree(source: Path, allow: AllowList, as_packed: bool = False) -> Tree:
    """List a bundle's folder or zip.

    Args:
        as_packed: leave out of a working copy what doesn't belong to the bundle: caches, data, results, checkpoints.

    Raises:
        InputError: neither a folder nor a zip, or nothing in it.
    """
    try:
        if source.is_dir():
            tree = _read_folder(source, allow, as_packed)
        elif source.is_file() and zipfile.is_zipfile(source):
            tree = _read_zip(source)
        else:
            found = "no zip" if source.exists() else "nothing"
            raise InputError(f"{source}: found {found}; wanted a bundle's folder or zip")
    except (OSError, zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
        raise InputError(f"{source}: can't be read ({error}); wanted a bundle's folder or zip") from error
    if not tree.entries and not tree.findings:
        raise InputError(f"{source}: found no file; wanted a bundle's folder or zip")
    return tree


def _read_folder(source: Path, allow: AllowList, as_packed: bool) -> Tree:
    tree = Tree({}, [])
    waiting = [(source, "")]
    while waiting:
        folder, prefix = waiting.pop()
        for item in sorted(os.scandir(folder), key=lambda item: item.name):
            path = f"{prefix}{item.name}"
            if as_packed and _left_out(path):
                continue
            if item.is_symlink():
                target = os.readlink(item.path)
                known = allow.links.get(path) == target and os.path.isdir(item.path)
                reason = "" if known else "a link that isn't in the allow-list"
                tree.findings.append(Finding("link", path, target, reason))
                if known:
                    waiting.append((Path(item.path), f"{path}/"))
                continue
            if item.is_dir(follow_symlinks=False):
                waiting.append((Path(item.path), f"{path}/"))
                continue
            status = item.stat(follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode):
                tree.findings.append(Finding("file", path, stat.filemode(status.st_mode), "no regular file"))
                continue
            file = Path(item.path)
            tree.entries[path] = Entry(path, status.st_size, _file_opener(file), bool(status.st_mode & 0o111))
            if len(tree.entries) > MOST_FILES:
                raise InputError(f"{source}: found more than {MOST_FILES} files; wanted a bundle")
    return tree


def _left_out(path: str) -> bool:
    parts = PurePosixPath(path).parts
    if parts[-1] == "__pycache__" or parts[0] in NOT_PACKED:
        return True
    return len(parts) > 1 and parts[0] == "models" and parts[1] not in PACKED_MODELS


def _read_zip(source: Path) -> Tree:
    tree = Tree({}, [])
    with zipfile.ZipFile(source) as archive:
        members = archive.infolist()
    if len(members) > MOST_FILES:
        raise InputError(f"{source}: found {len(members)} members; wanted a bundle")
    tops = {member.filename.split("/")[0] for member in members}
    top = f"{next(iter(tops))}/" if len(tops) == 1 and all("/" in member.filename for member in members) else ""
    if members and not top:
        tree.findings.append(Finding("archive", source.name, f"{len(tops)} items", "no single folder at its top"))
    seen: set[str] = set()
    for member in members:
        path = member.filename.removeprefix(top)
        problems = judge_member(member)
        if path.casefold() in seen:
            problems.append("a name that is there twice, or differs only in case")
        seen.add(path.casefold())
        if problems:
            tree.findings.append(Finding("archive", path or member.filename, member.orig_filename, "; ".join(problems)))
        elif not member.is_dir():
            mode = member.external_attr >> 16
            tree.entries[path] = Entry(path, member.file_size, _opener(source, member), bool(mode & 0o111))
    return tree


def judge_member(member: zipfile.ZipInfo) -> list[str]:
    """Say what is wrong with a member of a zip: a name that leads elsewhere, a link, encryption, a bomb."""
    name, mode = member.filename, member.external_attr >> 16
    problems = []
    if member.orig_filename != name or "\\" in name or "\0" in name or name.startswith("/") or ":" in name:
        problems.append("no plain relative name")
    if ".." in name.split("/") or "." in name.split("/") or "" in name.rstrip("/").split("/"):
        problems.append("a name that leads out of the folder or has empty parts")
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        problems.append("a link or a special file")
    if mode & (stat.S_ISUID | stat.S_ISGID):
        problems.append("set-user or set-group rights")
    if member.flag_bits & 0x1:
        problems.append("encrypted")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        problems.append("an unusual compression")
    if member.file_size > LARGEST or (
        member.file_size > SMALL and member.file_size > HIGHEST_RATIO * max(1, member.compress_size)
    ):
        problems.append(f"{member.file_size} bytes from {member.compress_size}: a bomb")
    return problems


def _file_opener(file: Path) -> Callable[[], IO[bytes]]:
    return lambda: file.open("rb")


def _opener(source: Path, member: zipfile.ZipInfo) -> Callable[[], IO[bytes]]:
    def open_member() -> IO[bytes]:
        copy = tempfile.SpooledTemporaryFile(max_size=SMALL * 16)  # compressed members can't be searched through
        with zipfile.ZipFile(source) as archive, archive.open(member) as file:  # stops at the size that was declared
            shutil.copyfileobj(file, copy)
        copy.seek(0)
        return copy

    return open_member
