"""One run of a bundle: what all of its stages share."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch

from ..costs.pieces import Pieces, rehearsal, rehearsed
from ..data.datalist import Datalist
from ..errors import InputError
from ..files.atomic_write import write_atomic
from ..files.folder_lock import FolderLock
from ..launch.endings import nothing_to_tell, tell_when_stopped
from ..launch.words import number, path, truth
from .manifest import RunManifest


class Run:
    """Seed, device, folders and manifest of a run, and which of several processes this one is.

    Args:
        bundle_root, output_dir, ckpt_dir, cache_dir: folders; `~` is the home folder.
        dataset_dir: data set in MSD layout; None where a client gives its cases itself.
        datalist: name of its JSON file, or what a client has given.
        seed: of everything that is drawn.
        resume: go on with what an interrupted run has left.
        device: torch device, or its name.
        save_every: epochs between two checkpoints of a stage.
        num_workers: processes that load data.

    Attributes:
        kept: (stage, epoch, its epochs, file) of the last checkpoint; None before the first one.

    Raises:
        InputError: a setting that is none, one line each.
    """

    # in `cache_dir`: whose labels lie there; those of another run are made anew
    ID_FILE = "run_id"

    def __init__(
        self,
        bundle_root: str,
        output_dir: str,
        ckpt_dir: str,
        cache_dir: str,
        dataset_dir: str | None = None,
        datalist: str | Datalist = "dataset.json",
        seed: int = 0,
        resume: bool = False,
        device: str | torch.device = "cpu",
        save_every: int = 2,
        num_workers: int = 0,
    ) -> None:
        self.bundle_root, self.output_dir = Path(path(bundle_root)), Path(path(output_dir))
        self.ckpt_dir, self.cache_dir = Path(path(ckpt_dir)), Path(path(cache_dir))
        self.dataset_dir = None if dataset_dir is None else path(dataset_dir)
        self.datalist = datalist
        self.seed, self.resume = number("seed", seed, whole=True), truth("resume", resume)
        self.save_every = number("save_every", save_every, whole=True, least=1)
        self.num_workers = number("num_workers", num_workers, whole=True, least=0)
        self.device = torch.device(device)
        # torchrun's own words; a process that it has not started is alone
        self.rank, self.world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        self.kept: tuple[str, int, int, Path] | None = None
        self._locks: list[FolderLock] = []

    @property
    def settings(self) -> dict[str, Any]:
        """What the run was started with, for run.json."""
        names = ("output_dir", "ckpt_dir", "cache_dir", "dataset_dir", "datalist", "seed", "save_every", "num_workers")
        return {name: vars(self)[name] for name in (*names, "world_size")}

    @cached_property
    def manifest(self) -> RunManifest:
        """What the run was made of and what it cost; made when it is first needed, since it reads the data set."""
        return RunManifest(
            self.output_dir, seed=self.seed, device=self.device, dataset_dir=self.dataset_dir, resume=self.resume,
            datalist=self.datalist,
        )  # fmt: skip

    def checkpoint(self, stage: str) -> Path:
        """Return the file that a stage goes on from."""
        return self.ckpt_dir / f"{stage}.checkpoint.pt"

    def measure(self, name: str, work: Callable[[], Any], share: Pieces | None = None) -> Any:
        """Return work(), counted as a stage of the manifest.

        Args:
            share: of its work, what a dry run does of it; None: what goes case by case says so itself
                (`processes.watched`), and all else is done once.
        """
        with rehearsed(name, share):
            return self.manifest.measure(name, work)

    @property
    def id(self) -> str | None:
        """What names this run in its checkpoints and labels; None before `begin`."""
        return self.manifest.id

    def begin(self) -> None:
        """Take the folders for this run alone, then forget what was left there, or see that it is of this run.

        Every part has been noted in the manifest. With several processes the first one holds the folders for all.

        Raises:
            InputError: another run writes there; or a run is to be gone on with that had other settings or other data.
        """
        problems = []
        if self.rank == 0:
            try:
                self._take()
            except InputError as error:
                problems = error.problems
        if idist.all_reduce(float(len(problems))):
            raise InputError(problems or f"{self.ckpt_dir}: the first process can't have it, see what it says")
        changed = self.manifest.identify()
        if changed and self.resume and self.checkpoints():
            self.release()
            wanted = f"wanted as in {self.manifest.path.name} of the run whose checkpoints are in {self.ckpt_dir}"
            raise InputError(f"resume: {line}; {wanted}, or resume false" for line in changed)
        if changed:
            self.manifest.start_anew()
        self.forget_checkpoints()
        if self.rank == 0:
            write_atomic(self.cache_dir / self.ID_FILE, f"{self.id}\n")
        idist.barrier()
        if rehearsal() is not None:
            return
        own = weakref.ref(self)  # a run that nobody holds any more has nothing to tell
        tell_when_stopped(lambda: "" if own() is None else own().say_kept())

    def _take(self) -> None:
        locks = [FolderLock(folder) for folder in dict.fromkeys((self.ckpt_dir, self.output_dir, self.cache_dir))]
        # also at the end of the process, and of whatever built this run; a lock that is not held is let go of in vain
        weakref.finalize(self, _release, locks)
        try:
            dead = [lock.take() for lock in locks]
        except InputError:
            _release(locks)
            raise
        for holder in dict.fromkeys(filter(None, dead)):
            print(f"warning: {self.ckpt_dir}: was held by {holder}, which was killed; going on without it", flush=True)
        self._locks = locks

    def release(self) -> None:
        """Let other runs into the folders; all is done."""
        nothing_to_tell()
        _release(self._locks)

    def say_kept(self) -> str:
        """Return what a run that is stopped now leaves, and how to go on."""
        if self.kept is not None:
            stage, epoch, epochs, path = self.kept
            kept = f"epoch {epoch} of {epochs} of stage {stage} ({path})"
        else:
            kept = (
                ", ".join(path.name for path in self.checkpoints())
                or f"no checkpoint yet, what lies in {self.cache_dir}"
            )
        return f"kept: {kept}; to go on: the same command with --resume true"

    def checkpoints(self) -> list[Path]:
        """Return the checkpoints of all stages that are there, and those before them."""
        patterns = ("*.checkpoint.pt", "*.checkpoint.pt.previous")
        return sorted(found for pattern in patterns for found in self.ckpt_dir.glob(pattern))

    def forget_checkpoints(self) -> None:
        """Remove the checkpoints of all stages, unless the run resumes.

        A run that is killed in its first stage would otherwise, resumed, take the later stages of the run before it.
        """
        if self.resume or not self.checkpoints():
            return
        if self.rank == 0:
            print(f"{self.ckpt_dir}: the checkpoints of an earlier run go, since resume is false", flush=True)
        for stale in self.checkpoints():
            stale.unlink(missing_ok=True)


def _release(locks: list[FolderLock]) -> None:
    for lock in locks:
        lock.release()
