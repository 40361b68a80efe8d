"""One run of a bundle: what all of its stages share."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ..data.datalist import Datalist
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

    Raises:
        InputError: a setting that is none, one line each.
    """

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

    def measure(self, name: str, work: Any) -> Any:
        """Return work(), counted as a stage of the manifest."""
        return self.manifest.measure(name, work)

    def forget_checkpoints(self) -> None:
        """Remove the checkpoints of all stages, unless the run resumes.

        A run that is killed in its first stage would otherwise, resumed, take the later stages of the run before it.
        """
        if not self.resume:
            for pattern in ("*.checkpoint.pt", "*.checkpoint.pt.previous"):
                for stale in self.ckpt_dir.glob(pattern):
                    stale.unlink(missing_ok=True)
