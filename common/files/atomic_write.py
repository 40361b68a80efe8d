"""Files that are either the old or the new one, never half and never gone."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError
from .temporary import temporary_beside

_BLOCK = 1 << 20


@contextmanager
def replacing(path: str | os.PathLike, previous: str | os.PathLike | None = None) -> Iterator[Path]:
    """Yield a temporary name beside `path`; what was written there takes its place when the block ends without error.

    At every moment a whole file is at `path`, if there was one.

    Args:
        path: its folder is there.
        previous: where the file that is replaced stays.
    """
    path = Path(path)
    temporary = temporary_beside(path)
    try:
        yield temporary
        if previous is not None and path.exists():
            _keep(path, Path(previous))
        os.replace(temporary, path)
    finally:  # Ctrl-C is no Exception
        temporary.unlink(missing_ok=True)


def _keep(path: Path, previous: Path) -> None:
    """Let `previous` be what `path` is, without a moment in which either is missing or half."""
    second = temporary_beside(previous)
    try:
        try:
            os.link(path, second)
        except OSError:  # no such links here: FAT, some network shares
            shutil.copy2(path, second)
        os.replace(second, previous)
    finally:  # replacing a file by another name of it does nothing, and leaves both
        second.unlink(missing_ok=True)


def write_atomic(path: str | os.PathLike, data: bytes | str, previous: str | os.PathLike | None = None) -> Path:
    """Write `data` to `path` through a temporary file in the same folder, which is made where it is missing.

    A kill at any moment, or a full disk, leaves the old file. Text is written as UTF-8; what UTF-8 can't hold becomes
    "?".

    Args:
        previous: where a file that is replaced is kept; nothing is done where it holds `data` already.

    Raises:
        InputError: the folder or the file can't be written.
    """
    path = Path(path).expanduser()
    payload = data.encode("utf-8", "replace") if isinstance(data, str) else data
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if previous is not None and path.exists() and _holds(path, payload):
            return path  # an end of a run that is done again must not push out the file of the run before
        with replacing(path, previous) as temporary:
            with open(temporary, "wb") as file:
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{path}: can't be written ({reason}); a folder that can be written is wanted") from error
    return path


def _holds(path: Path, payload: bytes) -> bool:
    """Return whether a file is `payload`; what differs is seen at the first block that does."""
    with path.open("rb") as file:
        for start in range(0, len(payload), _BLOCK):
            if file.read(_BLOCK) != payload[start : start + _BLOCK]:
                return False
        return not file.read(1)


def require_writable(folder: str | os.PathLike) -> None:
    """Make a folder and try to write into it, before hours of work end in front of a locked door.

    Raises:
        InputError: it can't be made or written.
    """
    try:
        Path(folder).expanduser().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=Path(folder).expanduser()):
            pass
    except OSError as error:
        raise InputError(
            f"{folder}: can't be written ({error.strerror or error}); wanted a folder that can be"
        ) from error
