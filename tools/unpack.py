"""Check a packed bundle, and unpack it only if everything about it is right.

    python -m tools.unpack FILE.zip DIR                    DIR/NAME
    python -m tools.unpack FILE.zip DIR --key PUBLIC       the same, signed by the owner of this key or not at all
    python -m tools.unpack --verify FILE.zip               writes nothing

Needs nothing but Python, and for --key the package py-minisign. Right sums say that the zip is whole; only a signature
says whose it is. What the bundle would execute is told by `python -m tools.scan`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from common.errors import InputError, plain_input_errors, printable
from common.files.temporary import remove_leftovers, temporary_beside
from common.launch.words import place

from . import signature
from .packing.archive_check import check_members, open_archive
from .packing.checksums import FILE as SUMS
from .packing.checksums import MAX_BYTES, parse_sums

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Checked:
    """What was checked of a zip: the bundle's name and version, how many files, and whose comment was signed."""

    name: str
    version: str
    files: int
    signed: str | None

    def __str__(self) -> str:
        signed = f"signed ({self.signed.replace(chr(9), ', ')})" if self.signed is not None else "signature not checked"
        return printable(f"{self.name} {self.version}: {self.files} files as in {SUMS}, {signed}")


def verify(path: Path, key: Path | None = None) -> Checked:
    """Check a zip as `unpack` does and write nothing."""
    with _checked(path, key) as (_, _, checked):
        return checked


def unpack(path: Path, directory: Path, key: Path | None = None) -> tuple[Path, Checked]:
    """Unpack a zip to `directory`/<name>, which must not be there yet; return that folder and what was checked.

    Before anything is written, the signature (where a key is given), every name, kind and size, and every sum are
    checked. The folder appears complete, under its name, or not at all.

    Raises:
        InputError: one line for each thing that is wrong.
    """
    with _checked(path, key) as (archive, sums, checked):
        target = directory / checked.name
        if os.path.lexists(target):
            raise InputError(f"{target}: already there; wanted another DIR, or that you remove it first")
        temporary = temporary_beside(target)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            remove_leftovers(directory, depth=0)
            temporary.mkdir(0o700)
            whole = temporary / checked.name
            for member in archive.infolist():
                file = temporary / member.filename
                file.parent.mkdir(parents=True, exist_ok=True)
                with file.open("xb") as written:
                    found = _copy(archive, member, written)
                inside = member.filename.partition("/")[2]
                if inside != SUMS and found != sums[inside]:
                    raise InputError(f"{path.name}: {inside} changed while it was read; wanted a file that stays")
            os.rename(whole, target)
        except OSError as error:
            raise InputError(
                f"{target}: can't be written ({error.strerror or error}); wanted a folder to write to"
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return target, checked


@contextmanager
def _checked(path: Path, key: Path | None) -> Iterator[tuple[zipfile.ZipFile, dict[str, str], Checked]]:
    """Open a zip once, so that what is checked is what is unpacked, and yield it with its sums."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); wanted a zip written by tools.pack") from error
    with file:
        comment = signature.verify(file, path, key) if key is not None else None  # before the zip is even parsed
        size = file.seek(0, os.SEEK_END)
        with open_archive(file, path.name) as archive:
            members = check_members(archive, path.name, size)
            top = members[0].filename.partition("/")[0]
            sums = _check_sums(archive, members, path.name, top)
            version = _version(archive, f"{top}/configs/metadata.json", path.name)
            yield archive, sums, Checked(top, version, len(members), comment)


def _check_sums(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo], name: str, top: str) -> dict[str, str]:
    inside = {member.filename.partition("/")[2]: member for member in members}
    if SUMS not in inside:
        raise InputError(f"{name}: no {top}/{SUMS}; wanted a zip written by tools.pack")
    sums = parse_sums(_read_small(archive, inside.pop(SUMS), name), f"{name}: {SUMS}")
    problems = [f"{name}: {file}: not in {SUMS}; wanted its sum there" for file in sorted(set(inside) - set(sums))]
    problems += [f"{name}: {file}: missing; wanted, it is in {SUMS}" for file in sorted(set(sums) - set(inside))]
    if not problems:
        for file, member in inside.items():
            found = _copy(archive, member, None)
            if found != sums[file]:
                problems.append(f"{name}: {file}: sha256 {found}; wanted {sums[file]}")
    if problems:
        raise InputError(problems)
    return sums


def _copy(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: IO[bytes] | None) -> str:
    """Read a member, into `target` where there is one, and return its sha256; never more than its declared size."""
    digest = hashlib.sha256()
    with archive.open(member) as source:
        while block := source.read(_BLOCK):
            digest.update(block)
            if target is not None:
                target.write(block)
    return digest.hexdigest()


def _read_small(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> bytes:
    if member.file_size > MAX_BYTES:
        raise InputError(f"{name}: {member.filename} of {member.file_size} bytes; wanted {MAX_BYTES} at most")
    return archive.read(member)


def _version(archive: zipfile.ZipFile, member: str, name: str) -> str:
    try:
        version = json.loads(_read_small(archive, archive.getinfo(member), name))["version"]
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{name}: {member} without a version ({error!r}); wanted a bundle's metadata") from error
    if not isinstance(version, str) or not version.isprintable() or len(version) > 40:
        raise InputError(f"{name}: {member} with version {version!r:.60}; wanted a text such as '0.1.0'")
    return version


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.unpack", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=place, metavar="FILE.zip", help="written by tools.pack")
    parser.add_argument("directory", type=place, nargs="?", metavar="DIR", help="where the bundle's folder shall stand")
    parser.add_argument(
        "--key", type=place, metavar="PUBLIC", help="public key of minisign: the zip must be signed by it"
    )
    parser.add_argument("--verify", action="store_true", help="only check")
    given = parser.parse_args(arguments)
    if given.verify == (given.directory is not None):
        parser.error("wanted either DIR or --verify")
    if given.verify:
        print(verify(given.file, given.key))
    else:
        folder, checked = unpack(given.file, given.directory, given.key)
        print(f"{printable(folder)}: {checked}")
    return 0


if __name__ == "__main__":
    plain_input_errors()
    sys.exit(main())
