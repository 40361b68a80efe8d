from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from common.errors import InputError
from common.files.folder_lock import FILE
from common.run import dry_run
from common.run.dry_run import begin, seconds_of_process


@pytest.fixture(autouse=True)
def started(monkeypatch):
    """Collects the folders that a real run is begun with."""
    found = []
    monkeypatch.setattr(dry_run, "start", found.extend)
    return found


@pytest.mark.parametrize("word", [False, "false", 0])
def test_a_real_run_is_begun_as_ever(word, started, tmp_path):
    begin([str(tmp_path)], word)
    assert started == [str(tmp_path)]


def test_is_refused_without_the_command_that_is_begun_anew(tmp_path, started):
    with pytest.raises(InputError, match=r"wanted false where a run is not started by python -m monai\.bundle run"):
        begin([str(tmp_path / "o")], "true")
    assert not started and not list(tmp_path.iterdir())


def test_is_refused_in_several_processes_and_where_another_run_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(dry_run, "read_arguments", list)
    monkeypatch.setenv("WORLD_SIZE", "2")
    code = "import sys; sys.path.insert(0, sys.argv[1]); from common.files.folder_lock import FolderLock as L;"
    code += "one = L(sys.argv[2]); one.take(); print('held', flush=True); sys.stdin.read()"
    root = os.path.abspath(f"{__file__}/../../../..")
    line = [sys.executable, "-c", code, root, str(tmp_path)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InputError) as error:
            begin([str(tmp_path), str(tmp_path)], True)
        assert (tmp_path / FILE).exists()
        other.communicate("")
    assert len(error.value.problems) == 2 and "another run writes there" in error.value.problems[1]
    assert "wanted one, without torchrun" in error.value.problems[0]


def test_a_process_knows_how_long_it_has_lived():
    before = seconds_of_process()
    time.sleep(0.3)
    assert before > 0 and 0.2 < seconds_of_process() - before < 30
