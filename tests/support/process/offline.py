"""Processes that reach no network: sockets are refused to Python, and where Linux lets us, there are no interfaces."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

# Python runs this in every process whose PYTHONPATH holds its folder, pip's own included
_REFUSE = """
import socket

def refuse(*arguments, **options):
    raise OSError("the network is blocked by a test")

socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse
"""


def run_offline(command: Sequence[str | Path], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in `folder` without a network and return what it said."""
    blocker = folder / "blocked"
    blocker.mkdir(exist_ok=True)
    (blocker / "sitecustomize.py").write_text(_REFUSE)
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    kept |= {"PYTHONPATH": str(blocker), "OMP_NUM_THREADS": "1", **environment}
    words = [*_without_interfaces(), *map(str, command)]
    return subprocess.run(words, cwd=folder, env=kept, capture_output=True, text=True)


@cache
def _without_interfaces() -> tuple[str, ...]:
    """Return the words before a command that take all network interfaces from it; none where that isn't allowed."""
    words = ("unshare", "--map-root-user", "--net")
    allowed = shutil.which(words[0]) and subprocess.run([*words, "true"], capture_output=True).returncode == 0
    return words if allowed else ()
