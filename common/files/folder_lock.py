"""One run a folder: who writes there and since when, and whether that process still lives."""

from __future__ import annotations

import errno
import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import InputError
from .temporary import is_alive, machine

try:
    import fcntl

    SYSTEM_LOCKS = True
except ImportError:  # Windows, where the words in the file have to do
    SYSTEM_LOCKS = False

FILE = "run.lock"


class FolderLock:
    """Keep other processes out of a folder, by a file `run.lock` that says who holds it, and by the system's own lock.

    The system lets go of its lock when the process ends, however it ends; a process number that is used again says
    nothing then. The same process may take a folder again, as a client does that runs one training after the other.

    Args:
        folder: made where it is missing.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self.path = Path(folder) / FILE
        self._file: int | None = None

    def take(self) -> str | None:
        """Take the folder; where a dead process had left it locked, return which one.

        Raises:
            InputError: another process writes there, or may do so on another machine; or it can't be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file, sure = self._open()
            holder = _read(file)
            if holder is not None and _is_own(holder):  # closing the one's file must not give up the other's lock
                self.path.unlink(missing_ok=True)
                os.close(file)
                file, sure = self._open()
                holder = _read(file)
        except OSError as error:
            reason = error.strerror or error
            raise InputError(f"{self.path}: can't be written ({reason}); wanted a folder that can be") from error
        if holder is not None and not _is_gone(holder, sure):
            os.close(file)
            raise InputError(_refusal(self.path, holder))
        said = {"pid": os.getpid(), "host": platform.node(), "machine": machine(), "since": _now().isoformat()}
        try:
            os.ftruncate(file, 0)
            os.pwrite(file, (json.dumps(said) + "\n").encode(), 0)
        except OSError as error:
            os.close(file)
            raise InputError(f"{self.path}: can't be written ({error.strerror}); wanted room for it") from error
        self._file = file
        if holder is None:
            return None
        return f"process {holder['pid']}, since {holder['since']}"

    def release(self) -> None:
        """Let others in; nothing where it isn't held."""
        if self._file is None:
            return
        file, self._file = self._file, None
        if self._is_still(file):
            self.path.unlink(missing_ok=True)
        os.close(file)

    def _open(self) -> tuple[int, bool]:
        """Return the open lock file, and whether the system has locked it: not every network share can."""
        while True:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            sure = SYSTEM_LOCKS
            try:
                if sure:  # not flock: it would go on in data loaders' workers, which outlive a kill by some seconds
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in (errno.EACCES, errno.EAGAIN):
                    holder = _read(file)
                    os.close(file)
                    raise InputError(_refusal(self.path, holder or {})) from None
                sure = False
            if self._is_still(file):
                return file, sure
            os.close(file)  # whoever held it has just removed it

    def _is_still(self, file: int) -> bool:
        try:
            return os.path.samestat(os.fstat(file), os.stat(self.path))
        except FileNotFoundError:
            return False


def _read(file: int) -> dict[str, Any] | None:
    """Return what the holder said of itself, read without closing the file: that would give up the lock."""
    try:
        said = json.loads(os.pread(file, 4096, 0))
        return {"pid": int(said["pid"]), **{key: str(said[key]) for key in ("host", "machine", "since")}}
    except (ValueError, KeyError, TypeError):
        return None


def _is_own(holder: dict[str, Any]) -> bool:
    return holder["machine"] == machine() and holder["pid"] == os.getpid()


def _is_gone(holder: dict[str, Any], sure: bool) -> bool:
    """Return whether a holder is known to be dead, where the file could be locked (`sure`) or not."""
    if holder["machine"] == machine():
        return sure or not is_alive(holder["pid"])
    return holder["host"] == platform.node()  # this machine was started anew since


def _refusal(path: Path, holder: dict[str, Any]) -> str:
    wanted = "wanted a folder of its own for each run, or that it ends"
    if not holder:
        return f"{path.parent}: another run writes there; {wanted}"
    who = f"process {holder['pid']} on {holder['host']}, since {holder['since']}{_age(holder['since'])}"
    if holder["machine"] == machine():
        return f"{path.parent}: another run writes there ({who}); {wanted}"
    return f"{path.parent}: a run on another machine had it last ({who}); if it has ended, remove {path}"


def _age(since: str) -> str:
    try:
        hours = (_now() - datetime.fromisoformat(since)).total_seconds() / 3600
    except (ValueError, TypeError):
        return ""
    return f", {hours:.1f} h ago"


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
