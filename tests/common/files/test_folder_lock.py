from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import InputError
from common.files.folder_lock import FILE, FolderLock
from common.files.temporary import machine

ROOT = Path(__file__).resolve().parents[3]
HOLD = """
import os, sys, time
from common.files.folder_lock import FolderLock
lock = FolderLock(sys.argv[1])
lock.take()
if "fork" in sys.argv and os.fork() == 0:
    time.sleep(30)  # as a data loader's worker, which outlives a kill by some seconds
print("taken", flush=True)
time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """Start another process that holds a folder."""
    started = []

    def start(*words: str) -> subprocess.Popen:
        command = [sys.executable, "-B", "-c", HOLD, str(tmp_path), *words]
        started.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True))
        assert started[-1].stdout.readline() == "taken\n"
        return started[-1]

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.communicate()


def says(tmp_path, **changes):
    """Write the lock file of a holder that is not here."""
    said = {"pid": 4_000_000, "host": "elsewhere", "machine": "00000000", "since": "2026-01-02T03:04:05+00:00"}
    (tmp_path / FILE).write_text(json.dumps(said | changes))


def test_one_holds_it_until_it_lets_go(tmp_path, other):
    lock = FolderLock(tmp_path / "new")
    assert lock.take() is None
    said = json.loads((tmp_path / "new" / FILE).read_text())  # reading it here closes it, and gives up the lock
    assert said["pid"] == os.getpid() and said["host"] == platform.node() and said["since"].startswith("20")
    lock.release()
    lock.release()
    assert list((tmp_path / "new").iterdir()) == []


def test_another_process_is_refused_with_who_holds_it(tmp_path, other):
    process = other()
    told = (
        rf"{tmp_path}: another run writes there \(process {process.pid} on {platform.node()}, since 20.*, 0.0 h ago\)"
    )
    for _ in range(2):
        with pytest.raises(InputError, match=told):
            FolderLock(tmp_path).take()
    assert (tmp_path / FILE).exists()


@pytest.mark.parametrize("words", [(), ("fork",)])
def test_what_a_killed_process_held_is_taken_over(tmp_path, other, words):
    process = other(*words)
    os.kill(process.pid, 9)
    process.wait()
    lock = FolderLock(tmp_path)
    assert lock.take().startswith(f"process {process.pid}, since 20")
    lock.release()
    assert not (tmp_path / FILE).exists()


def test_a_number_of_a_process_that_is_used_again_means_nothing(tmp_path):
    says(tmp_path, pid=os.getppid(), machine=machine(), host=platform.node())  # alive, and holds no lock
    assert FolderLock(tmp_path).take().startswith("process ")


def test_a_machine_that_was_started_anew_has_no_old_processes(tmp_path):
    says(tmp_path, pid=os.getppid(), host=platform.node())
    assert FolderLock(tmp_path).take().startswith("process ")


def test_another_machine_cannot_be_asked(tmp_path):
    says(tmp_path)
    told = r"run on another machine had it last \(process 4000000 on elsewhere, since 2026-01-02.* h ago\); .* remove "
    with pytest.raises(InputError, match=told + str(tmp_path / FILE)):
        FolderLock(tmp_path).take()
    (tmp_path / FILE).unlink()
    assert FolderLock(tmp_path).take() is None


@pytest.mark.parametrize("content", ["", "{}", "half {", '{"pid": "x"}'])
def test_a_file_that_says_nothing_of_a_killed_process_is_taken(tmp_path, content):
    (tmp_path / FILE).write_text(content)
    assert FolderLock(tmp_path).take() is None


def test_the_same_process_may_come_again_and_the_first_does_not_take_the_second_ones(tmp_path, other):
    first, second = FolderLock(tmp_path), FolderLock(tmp_path)
    assert first.take() is None and second.take() is None
    first.release()
    assert (tmp_path / FILE).exists()
    process = subprocess.run(
        [sys.executable, "-B", "-c", HOLD, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert process.returncode == 1 and f"process {os.getpid()} on" in process.stderr
    second.release()
    other()


@pytest.mark.parametrize("alive", [True, False])
def test_where_nothing_can_be_locked_the_process_is_looked_for(tmp_path, monkeypatch, alive):
    def unsupported(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", unsupported)
    says(tmp_path, pid=os.getppid() if alive else 4_000_000, machine=machine(), host=platform.node())
    if alive:
        with pytest.raises(InputError, match=f"another run writes there .process {os.getppid()} "):
            FolderLock(tmp_path).take()
    else:
        assert FolderLock(tmp_path).take().startswith("process ")


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/below/run.lock: can't be written"):
        FolderLock(tmp_path / "file" / "below").take()
