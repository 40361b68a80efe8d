"""A zip that is the same to the last byte whenever and wherever it is built from the same files."""

from __future__ import annotations

import os
import shutil
import time
import zipfile
from pathlib import Path

from common.errors import InputError

EPOCH_VARIABLE = "SOURCE_DATE_EPOCH"  # https://reproducible-builds.org/specs/source-date-epoch
EARLIEST = 315532800  # 1980-01-01, the first time that a zip can hold
LATEST = 4354819198  # 2107-12-31


def build_time() -> int | None:
    """Return the seconds since 1970 that $SOURCE_DATE_EPOCH names, None where it isn't set.

    Raises:
        InputError: it is no number of seconds that a zip can hold.
    """
    text = os.environ.get(EPOCH_VARIABLE)
    if not text:
        return None
    seconds = int(text) if text.isascii() and text.isdigit() else -1
    if not EARLIEST <= seconds <= LATEST:
        raise InputError(f"{EPOCH_VARIABLE}: found {text!r}, wanted seconds since 1970 between {EARLIEST} and {LATEST}")
    return seconds


def write_archive(path: Path, folder: Path) -> None:
    """Write the files below `folder` as a zip whose one top folder has its name, see `write_files`."""
    write_files(path, folder, f"{folder.name}/")


def write_files(path: Path, folder: Path, prefix: str = "") -> None:
    """Write the files below `folder` as a zip, their names behind a prefix.

    Files come in the order of their names, with one time and one mode, and are stored as they are: what a deflate
    library makes of them differs between its versions, and weights hardly shrink.
    """
    moment = time.gmtime(build_time() or EARLIEST)[:6]
    names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            member = zipfile.ZipInfo(f"{prefix}{name}", moment)
            member.create_system = 3  # Unix, also where Windows packs
            member.external_attr = 0o100644 << 16
            member.file_size = (folder / name).stat().st_size  # by which zipfile sees whether it takes zip64
            with (folder / name).open("rb") as source, archive.open(member, "w") as target:
                shutil.copyfileobj(source, target, 1 << 20)
