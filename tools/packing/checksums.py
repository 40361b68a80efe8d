"""SHA256SUMS: the sha256 of every other file of a package, in the form that `sha256sum -c` reads."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from common.errors import InputError

FILE = "SHA256SUMS"
MAX_BYTES = 4 << 20
_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")


def sums_of(folder: Path) -> dict[str, str]:
    """Return the sha256 (hex) of every file below `folder` by its path in it, but not of its SHA256SUMS."""
    sums = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != FILE:
            with path.open("rb") as file:
                sums[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return sums


def as_text(sums: dict[str, str]) -> str:
    """Return the content of SHA256SUMS."""
    return "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))


def parse_sums(text: bytes, source: str) -> dict[str, str]:
    """Return what a SHA256SUMS says, by file.

    Raises:
        InputError: one line for each line that is none of `sha256sum`, or that names a file again.
    """
    sums: dict[str, str] = {}
    problems = []
    for number, line in enumerate(text.decode("utf-8", "replace").splitlines(), start=1):
        found = _LINE.fullmatch(line)
        if not found or found[2] in sums:
            problems.append(f"{source}: line {number}: {line[:80]!r}; wanted '<sha256>  <file>', each file once")
        else:
            sums[found[2]] = found[1]
    if problems or not sums:
        raise InputError(problems or f"{source}: empty; wanted a line for each file")
    return sums
