"""Folders that can't be written, for root, too."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

_DROP, _OVERRIDES = 24, (1, 2)  # PR_CAPBSET_DROP; CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH


def obey_permissions() -> None:
    """Let what this process starts obey permissions though it is root's: a `preexec_fn`."""
    if os.geteuid() == 0:
        for capability in _OVERRIDES:
            ctypes.CDLL(None).prctl(_DROP, capability, 0, 0, 0)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Take the right to write from a folder and all in it; skips where a process may write all the same."""
    paths = [folder, *folder.rglob("*")]
    modes = [(path, path.stat().st_mode) for path in paths]
    for path, mode in modes:
        path.chmod(mode & 0o555)
    try:
        done = subprocess.run(["touch", folder / "probe"], preexec_fn=obey_permissions, capture_output=True)
        if done.returncode == 0:
            pytest.skip("this user can't be kept from writing into a folder")
        yield
    finally:
        for path, mode in modes:
            path.chmod(mode)
