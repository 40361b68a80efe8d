"""A dry run: the same command in a folder of its own, with a few cases and steps, and what the real one will cost."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai import bundle

from ..costs.line import Clock
from ..costs.pieces import let_rehearse, rehearsal
from ..costs.rehearsal import Rehearsal
from ..errors import InputError
from ..files.folder_lock import FILE, FolderLock
from ..launch.overrides import read_arguments
from ..launch.start import start
from ..launch.words import path, truth
from .forecast import Forecast

FOLDERS = ("output_dir", "ckpt_dir", "cache_dir")
MODEL = "ckpt_path"


def begin(folders: Sequence[str], dry_run: Any = False) -> None:
    """Do what every run begins with, see `launch.start.start`; or, for a dry run, measure the run that this command
    asks for, print what it will cost, and end the process. An item of `initialize`.

    A dry run begins the command anew in this process, its folders in a temporary one, which is removed.

    Args:
        folders: where the run writes; a dry run doesn't touch them.
        dry_run: true or false.

    Raises:
        InputError: see there; whatever the run would be refused for; a dry run of several processes.
        SystemExit: a dry run is done.
    """
    if not truth("dry_run", dry_run):
        start(folders)
        return
    one = rehearsal()
    if one is not None:  # begun anew: what was read and imported before is no part of a run
        one.apart = one.apart.more(Clock.now().since(one.begun))
        start(folders)
        return
    print(_measure(_require_command(folders), folders), flush=True)
    raise SystemExit(0)


def _measure(arguments: dict[str, Any], folders: Sequence[str]) -> Forecast:
    """Return what a command would cost, by a little of it in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="dry_run_") as place:
        one = Rehearsal(Path(place))
        let_rehearse(one)
        own = {name: str(Path(place) / name) for name in FOLDERS}
        own[MODEL] = str(Path(place) / "ckpt_dir" / "model.pt")
        try:
            bundle.run(**{**arguments, **own})
            return Forecast(one, Clock(seconds_of_process(), Clock.now().cpu), [Path(path(f)) for f in folders])
        finally:
            one.end()


def _require_command(folders: Sequence[str]) -> dict[str, Any]:
    """Return the arguments of this process's command, where a run could write into the folders and be measured."""
    problems, arguments = [], read_arguments()
    if arguments is None:
        problems.append("dry_run is true; wanted false where a run is not started by python -m monai.bundle run")
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        problems.append("dry_run is true in several processes; wanted one, without torchrun")
    for folder in dict.fromkeys(path(folder) for folder in folders):
        if (Path(folder) / FILE).exists():
            lock = FolderLock(folder)
            try:
                lock.take()
            except InputError as error:
                problems += error.problems
            lock.release()
    if problems:
        raise InputError(problems)
    return dict(arguments)


def seconds_of_process() -> float:
    """Return the seconds since this process began; where the system doesn't tell, those that it has computed."""
    try:
        fields = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        up = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
        return up - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return time.process_time()
