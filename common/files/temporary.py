"""Temporary files that say who writes them, so that what a kill has left is known from what is being written."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import shutil
import time
from pathlib import Path

PREFIX = ".tmp-"
OLD = 24 * 3600.0  # seconds after which nobody is still writing one file
DEPTH = 4  # folders below the first one: cache/labels/<identity>/<bank>
KEPT_LETTERS = 48  # of a name's end, which holds the extension; a file system takes 255 bytes


@functools.cache
def machine() -> str:
    """Return 8 hex digits for this machine since its last start; containers on it have the same ones."""
    try:
        start = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except OSError:
        start = platform.node()
    return hashlib.sha256(start.strip().encode()).hexdigest()[:8]


def is_alive(pid: int) -> bool:
    """Return whether a process of this machine runs; True where that can't be asked without harm, as on Windows."""
    if not hasattr(os, "getpgid"):
        return True
    try:
        os.getpgid(pid)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        return True
    return True


def temporary_beside(path: str | os.PathLike) -> Path:
    """Return a name in the folder of `path` for what will take its place; it has the same extension."""
    path = Path(path)
    return path.with_name(f"{PREFIX}{machine()}-{os.getpid()}-{time.time_ns():x}-{path.name[-KEPT_LETTERS:]}")


def remove_leftovers(folder: str | os.PathLike, depth: int = DEPTH) -> list[Path]:
    """Remove temporary files and folders in a folder, and `depth` below it, whose writer is dead, and return them.

    What is of another machine, or of a process whose number runs here, goes when it is a day old.
    """
    root = Path(folder)
    gone = []
    for place, below, names in os.walk(root):
        for path in (Path(place, name) for name in (*names, *below) if name.startswith(PREFIX)):
            if not _is_left(path):
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
            gone.append(path)
        deep = len(Path(place).relative_to(root).parts) >= depth
        below[:] = [] if deep else [name for name in below if not name.startswith(PREFIX)]
    return gone


def _is_left(path: Path) -> bool:
    writer, _, rest = path.name.removeprefix(PREFIX).partition("-")
    pid = rest.partition("-")[0]
    if writer == machine() and pid.isdigit() and not is_alive(int(pid)):
        return True
    try:
        return time.time() - path.stat().st_mtime > OLD
    except OSError:  # its writer has just put it in place
        return False
