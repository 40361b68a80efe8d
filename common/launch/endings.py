"""How a run ends that is stopped: by Ctrl-C or SIGTERM, by a full disk, for want of memory. One line, no traceback."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import causes, find_input_error, wants_gpu_memory, wants_memory

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
STOPPED, TERMINATED = 130, 143  # 128 and the number of the signal, as shells say it
_ENDS = "is terminating due to exception"  # what ignite logs of an error that is told here

_tellers: list[Callable[[], str]] = []  # of what is under way in this process: at most one


class Terminated(KeyboardInterrupt):
    """SIGTERM came; whatever lets Ctrl-C pass lets it pass as well."""


def tell_when_stopped(say: Callable[[], str]) -> None:
    """From now on, what ends the process before its time also prints what `say` returns: what is kept, how to go on."""
    _tellers[:] = [say]


def nothing_to_tell() -> None:
    """What was under way is done."""
    _tellers.clear()


def plain_endings() -> None:
    """Let what stops a process print one line, and what is kept behind it: status 130, 143, or 1 for disk and memory.

    Where the process is `python -m monai.bundle run`, SIGTERM ends it in the same way. In a server, which has its own
    way with signals, it is left alone.
    """
    previous = sys.excepthook

    def hook(kind, error, trace) -> None:
        line, status = describe(error)
        kept = "; ".join(say() for say in _tellers) if os.environ.get("RANK", "0") == "0" else ""
        if line is None:
            previous(kind, error, trace)
            if kept:
                print(kept, file=sys.stderr)
            return
        print(f"{line}; {kept}" if kept else line, file=sys.stderr)
        raise SystemExit(status)  # the one way for a hook to choose the status

    sys.excepthook = hook
    if Path(sys.argv[0]).parts[-3:] == ("monai", "bundle", "__main__.py"):
        for name in (None, "ignite", "monai"):
            for handler in (*logging.getLogger(name).handlers, logging.lastResort):
                handler.addFilter(lambda record: _ENDS not in str(record.msg))
        signal.signal(signal.SIGTERM, _terminate)


def describe(error: BaseException | None) -> tuple[str | None, int]:
    """Return the line of an ending, and the status of the process; None for an error of another kind."""
    chain = list(causes(error))
    if any(isinstance(one, Terminated) for one in chain):
        return "stopped: by SIGTERM", TERMINATED
    if any(isinstance(one, KeyboardInterrupt) for one in chain):
        return "stopped: by Ctrl-C", STOPPED
    if find_input_error(error) is not None:
        return None, 1
    for one in chain:
        said = (str(one) or type(one).__name__).splitlines()[0][:160]
        if isinstance(one, OSError) and one.errno in FULL:
            return f"error: {one.filename or 'a file'}: can't be written ({one.strerror}); wanted room for it", 1
        if wants_memory(one):
            slower = ", or device cpu" if wants_gpu_memory(one) else ""
            wanted = f"wanted more, or a smaller grid (max_voxels of a training){slower}"
            return f"error: out of memory ({said}); {wanted}", 1
    return None, 1


def _terminate(number: int, frame: Any) -> None:
    raise Terminated
