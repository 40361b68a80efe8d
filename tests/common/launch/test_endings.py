from __future__ import annotations

import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from common.errors import InputError
from common.launch.endings import Terminated, describe

ROOT = Path(__file__).resolve().parents[3]
FULL = OSError(errno.ENOSPC, "No space left on device", "/data/a_seg.nii.gz")
BEGUN = """
import os, signal, sys, time
from common.launch.endings import nothing_to_tell, plain_endings, tell_when_stopped
from common.errors import InputError, plain_input_errors
sys.argv = ["monai/bundle/__main__.py"] if {command} else ["server.py"]
plain_input_errors()
plain_endings()
tell_when_stopped(lambda: "kept: epoch 3")
{work}
"""


def ends(work: str, command: bool = True, **environment: str) -> tuple[int, str, str]:
    """Run a program that is stopped; return its status, and what it said."""
    program = BEGUN.format(work=work, command=command)
    done = subprocess.run([sys.executable, "-B", "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60,
                          env={"PATH": "", **environment})  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("work", "status", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGINT); time.sleep(9)", 130, "stopped: by Ctrl-C; kept: epoch 3\n"),
        ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)", 143, "stopped: by SIGTERM; kept: epoch 3\n"),
        (
            "raise OSError(28, 'No space left on device', 'a.nii')",
            1,
            "error: a.nii: can't be written (No space left on device); wanted room for it; kept: epoch 3\n",
        ),
        (
            "raise MemoryError",
            1,
            "error: out of memory (MemoryError); wanted more, or a smaller grid (max_voxels of a training); "
            "kept: epoch 3\n",
        ),
        ("raise InputError(['a: b', 'c: d'])", 1, "error: a: b\nerror: c: d\nkept: epoch 3\n"),
        ("nothing_to_tell(); raise KeyboardInterrupt", 130, "stopped: by Ctrl-C\n"),
    ],
)
def test_one_line_with_what_is_kept_and_a_status(work, status, said):
    assert ends(work) == (status, "", said)


def test_another_error_keeps_its_traceback_and_says_what_is_kept():
    status, _, said = ends("raise ValueError('a bug')")
    assert status == 1 and said.startswith("Traceback") and said.endswith("ValueError: a bug\nkept: epoch 3\n")


def test_only_the_first_of_several_processes_says_what_is_kept():
    assert ends("raise KeyboardInterrupt", RANK="1") == (130, "", "stopped: by Ctrl-C\n")
    assert ends("raise KeyboardInterrupt", RANK="0")[2] == "stopped: by Ctrl-C; kept: epoch 3\n"


def test_a_server_has_its_own_way_with_signals():
    assert ends("os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)", command=False)[0] == -signal.SIGTERM


def test_what_was_going_on_is_cleaned_up():
    work = "import atexit; atexit.register(print, 'cleaned up')\n"
    work += "try:\n    raise KeyboardInterrupt\nfinally:\n    print('finally')"
    assert ends(work)[1] == "finally\ncleaned up\n"


def wrapped(error: BaseException) -> RuntimeError:
    """Return what MONAI makes of an error in an expression."""
    try:
        try:
            raise error
        except type(error) as cause:
            raise RuntimeError("Failed to evaluate ConfigExpression") from cause
    except RuntimeError as outer:
        return outer


@pytest.mark.parametrize(
    ("error", "line", "status"),
    [
        (KeyboardInterrupt(), "stopped: by Ctrl-C", 130),
        (Terminated(), "stopped: by SIGTERM", 143),
        (FULL, "error: /data/a_seg.nii.gz: can't be written (No space left on device)", 1),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "error: a file: can't be written (Disk quota exceeded)", 1),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "error: out of memory (CUDA out of", 1),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried"), "error: out of memory (DefaultCPU", 1),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "error: out of memory (DefaultCPUAll", 1),
    ],
)
def test_what_monai_wraps_is_found(error, line, status):
    for one in (error, wrapped(error)):
        found, code = describe(one)
        assert found.startswith(line) and code == status


def test_what_is_no_such_ending_is_left_to_others():
    assert describe(ValueError("a bug")) == (None, 1) and describe(FileNotFoundError(2, "none")) == (None, 1)
    try:
        raise InputError("a: can't be written") from FULL
    except InputError as error:
        assert describe(error) == (None, 1)  # it has a line of its own


def test_a_cpu_that_has_not_the_memory_is_found_by_what_torch_says():
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**60, dtype=torch.uint8)
    assert describe(error.value)[0].startswith("error: out of memory (")
