"""Checkpoints that a kill cannot destroy, and exact resumption of a stage."""

from __future__ import annotations

import hashlib
import random
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.transforms import Randomizable

from ..errors import InputError
from ..files.tensor_files import atomic_save, load_tensors
from ..run.run import Run


def seed_epoch(seed: int, stage: str, epoch: int, transform: Any = None, rank: int = 0) -> None:
    """Seed Python, NumPy, torch and the random transforms from (seed, stage, epoch): no state of theirs is saved."""
    digest = hashlib.sha256(f"{seed}/{stage}/{epoch}/{rank}".encode()).digest()
    number = int.from_bytes(digest[:4], "little")
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)
    if isinstance(transform, Randomizable):  # a Compose is one, and seeds what it holds
        transform.set_random_state(seed=number)


class StageCheckpoint:
    """Ignite handler that saves a trainer after epochs, and brings it back exactly.

    An epoch starts from seeds of its own (`seed_epoch`) and a sampler that knows its epoch, so weights, optimizer,
    schedule and the counters are all that has to be kept. `resume` is read by `ObjectiveTrainer.run`.

    Args:
        path: file of this stage; the one before it is kept beside it as `<name>.previous`.
        stage: name of the stage; part of the seeds.
        seed: of the run.
        save_every: epochs between two writes; the last epoch is always written.
        resume: go on from `path` where it exists.
        run: has an `id`, which goes into the file, and is told what is `kept`.
    """

    def __init__(
        self, path: str, stage: str, seed: int = 0, save_every: int = 1, resume: bool = False, run: Run | None = None
    ) -> None:
        self.path, self.stage, self.seed = Path(path).expanduser(), stage, seed
        self.previous = self.path.with_name(self.path.name + ".previous")
        self.save_every, self.resume, self.run = save_every, resume, run

    def attach(self, engine: Engine) -> None:
        engine.checkpoint = self
        engine.add_event_handler(Events.EPOCH_STARTED, self.seed_everything)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def seed_everything(self, engine: Engine) -> None:
        transform = getattr(engine.data_loader.dataset, "transform", None)
        seed_epoch(self.seed, self.stage, engine.state.epoch, transform, engine.state.rank)

    def save(self, engine: Engine) -> None:
        last = engine.state.epoch == engine.state.max_epochs
        if engine.state.rank > 0 or (engine.state.epoch % self.save_every and not last):
            return
        content = {"stage": self.stage, "seed": self.seed, "run": self.run.id if self.run else None}
        atomic_save(engine.training_state() | content, self.path, self.previous)
        self._note_kept(engine)

    def load(self, engine: Engine) -> bool:
        """Bring the trainer to where the file left it; False where there is nothing to go on from.

        A file that can't be read is passed over with a warning for the one before it.

        Raises:
            InputError: neither file can be read, or what they hold is not of this run.
        """
        if not self.resume:
            return False
        found = [path for path in (self.path, self.previous) if path.exists()]
        problems: list[str] = []
        for path in found:
            try:
                content = load_tensors(path, engine.state.device)
            except InputError as error:
                problems += error.problems
                continue
            self._require_same_run(path, content, engine)
            if problems:
                warnings.warn(f"{problems[0]}; going on from {path.name}, epoch {content['epoch']}", stacklevel=2)
            try:
                engine.load_training_state(content)
            except (RuntimeError, ValueError, KeyError) as error:
                reason = " ".join(str(error).split())[:300]
                raise InputError(f"{path}: {reason}; wanted what this run's config builds") from error
            self._note_kept(engine)
            return True
        if problems:
            raise InputError(problems)
        return False

    def _require_same_run(self, path: Path, content: Any, engine: Engine) -> None:
        wanted = {"stage": self.stage, "seed": self.seed, "epoch_length": engine.state.epoch_length}
        have = content if isinstance(content, Mapping) else {}
        raise_for = [
            f"{path}: {key} is {have.get(key)!r}; wanted {want!r}, as in this run's config"
            for key, want in wanted.items()
            if have.get(key) != want
        ]
        own = self.run.id if self.run else None
        if own is not None and have.get("run") not in (None, own):
            raise_for.append(f"{path}: is of run {have['run']}; wanted {own}, of these settings and data")
        if raise_for:
            raise InputError(raise_for)
        if own is not None and "run" not in have:
            print(f"warning: {path} says no run, as it is of an earlier version; going on from it", flush=True)

    def _note_kept(self, engine: Engine) -> None:
        if self.run is not None:
            self.run.kept = (self.stage, engine.state.epoch, engine.state.max_epochs, self.path)
