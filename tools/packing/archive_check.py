"""What a zip from elsewhere may hold before one byte of it is believed: plain files of plain names, and no bomb."""

from __future__ import annotations

import re
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from common.errors import InputError

MAX_MEMBERS = 10_000
MAX_BYTES = 8 << 30
MAX_RATIO = 100  # unpacked bytes for each byte of the zip; text shrinks to a tenth, a bomb to a thousandth
_ENCRYPTED = 0x1 | 0x40 | 0x2000  # by password, strongly, or with hidden headers
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")  # no hidden file, no name that looks like an option
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # Windows opens these instead of files
_SHOWN = 20


@contextmanager
def open_archive(file: IO[bytes], name: str) -> Iterator[zipfile.ZipFile]:
    """Open a zip, whatever is broken in it becoming one InputError that begins with `name`."""
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive
    except InputError:
        raise
    except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, ValueError) as error:
        raise InputError(f"{name}: not a sound zip ({error}); wanted one written by tools.pack") from error


def check_members(archive: zipfile.ZipFile, name: str, size: int) -> list[zipfile.ZipInfo]:
    """Return the members of a zip if all are plain files below one top folder.

    Refused are absolute paths, "..", drive letters, backslashes, hidden names, names beyond A-Z a-z 0-9 _ . + -, names
    twice or differing in case alone, a file that is also a folder, links, devices, folders as members, encryption,
    compression other than deflate, and bombs (`MAX_MEMBERS`, `MAX_BYTES`, `MAX_RATIO` of the zip's own size, which also
    finds members that overlap).

    Args:
        name: of the zip, for the messages.
        size: of the zip in bytes.

    Raises:
        InputError: one line for each problem.
    """
    members = archive.infolist()
    problems = []
    for member in members:
        # zipfile cuts a name at a zero byte and turns backslashes on Windows; what stands in the file counts
        shown = repr(member.orig_filename)[1:-1]
        found = _name_problem(member.orig_filename) or _member_problem(member)
        if found:
            problems.append(f"{name}: {shown}: {found}")
    problems += [f"{name}: {problem}" for problem in _clashes([member.orig_filename for member in members])]
    total = sum(member.file_size for member in members)
    if len(members) > MAX_MEMBERS:
        problems.append(f"{name}: {len(members)} files; wanted {MAX_MEMBERS} at most")
    if total > MAX_BYTES:
        problems.append(f"{name}: {total} bytes unpacked; wanted {MAX_BYTES} at most")
    if total > MAX_RATIO * size:
        problems.append(f"{name}: unpacks to {total // max(size, 1)} times its size; wanted {MAX_RATIO} times at most")
    tops = sorted({member.orig_filename.partition("/")[0] for member in members})
    if not problems and (len(tops) != 1 or any("/" not in member.orig_filename for member in members)):
        problems.append(f"{name}: top folders {', '.join(tops) or 'none'}; wanted one folder that holds every file")
    if len(problems) > _SHOWN:
        problems = [*problems[:_SHOWN], f"{name}: {len(problems) - _SHOWN} problems more"]
    if problems:
        raise InputError(problems)
    return members


def _name_problem(name: str) -> str | None:
    if "\\" in name:
        return "a backslash; wanted / between folders"
    if name.startswith("/"):
        return "an absolute path; wanted one inside the zip"
    if re.match(r"[A-Za-z]:", name):
        return "a drive letter; wanted a path inside the zip"
    if name.endswith("/"):
        return "a folder as a member; wanted files alone"
    for part in name.split("/"):
        if part in ("", ".", ".."):
            return f"{part!r} as a folder; wanted plain names"
        if not _PART.fullmatch(part) or part.endswith("."):
            return "a hidden name or one that not every system can hold; wanted letters, digits, _ . + - alone"
        if _DEVICES.fullmatch(part):
            return "a device's name on Windows; wanted another"
        if len(part) > 200:
            return "a name of more than 200 letters; wanted a shorter one"
    return "a path of more than 1000 letters; wanted a shorter one" if len(name) > 1000 else None


def _member_problem(member: zipfile.ZipInfo) -> str | None:
    kind = stat.S_IFMT(member.external_attr >> 16)
    if stat.S_ISLNK(kind):
        return "a link; wanted a plain file"
    if kind not in (0, stat.S_IFREG) or member.external_attr & 0x10:
        return "a device, folder or other special file; wanted a plain file"
    if member.flag_bits & _ENCRYPTED:
        return "encrypted; wanted it readable"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"compression {member.compress_type}; wanted stored or deflated"
    return None


def _clashes(names: list[str]) -> list[str]:
    """Names that would be one file on some system: the same twice, in another case, or a file that is a folder too."""
    problems = [f"{name!r}: there {count} times; wanted once" for name, count in Counter(names).items() if count > 1]
    spellings: dict[str, set[str]] = {}
    for name in set(names):
        parts = name.split("/")
        for end in range(1, len(parts) + 1):
            path = "/".join(parts[:end])
            spellings.setdefault(path.casefold(), set()).add(path)
    problems += [
        f"{' and '.join(sorted(same))}: differ in case alone; wanted one of them"
        for same in spellings.values()
        if len(same) > 1
    ]
    folders = {"/".join(name.split("/")[:end]).casefold() for name in names for end in range(1, name.count("/") + 1)}
    problems += [
        f"{name}: a file and a folder; wanted one" for name in sorted(set(names)) if name.casefold() in folders
    ]
    return problems
