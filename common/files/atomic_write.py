"""Files that are either the old or the new one, never half."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ..errors import InputError


def write_atomic(path: str | os.PathLike, data: bytes | str) -> Path:
    """Write `data` to `path` through a temporary file in the same folder, which is made where it is missing.

    A kill at any moment leaves the previous file. Text is written as UTF-8; what UTF-8 can't hold becomes "?".

    Raises:
        InputError: the folder or the file can't be written.
    """
    path = Path(path).expanduser()
    payload = data.encode("utf-8", "replace") if isinstance(data, str) else data
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes it private; a report is to be read by others
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        reason = error.strerror or error
        raise InputError(f"{path}: can't be written ({reason}); a folder that can be written is wanted") from error
    return path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def require_writable(output_dir: str | os.PathLike) -> None:
    """Make a folder and try to write into it, before hours of work end in front of a locked door.

    Raises:
        InputError: it can't be made or written.
    """
    try:
        Path(output_dir).expanduser().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=Path(output_dir).expanduser()):
            pass
    except OSError as error:
        raise InputError(
            f"output_dir {output_dir}: can't be written ({error.strerror or error}); wanted a folder that can be"
        ) from error
