"""A stage of a run: an objective, its optimiser and its data, with progress, cost and checkpoints attached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from monai.handlers import TensorBoardStatsHandler
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from ..costs.pieces import rehearsal
from ..launch.words import number, truth
from ..run.manifest import StageCost, settings_of
from ..run.run import Run
from .augmentation import Augmentation
from .checkpoint import StageCheckpoint
from .few_steps import FewSteps
from .progress import ProgressBar
from .trainer import ObjectiveTrainer


class Preparation(Protocol):
    """What comes before a last stage; see `Plan`."""

    trainers: dict[str, Any]

    def prepare(self) -> None:
        """Do it, once."""


class Stage(ObjectiveTrainer):
    """Train as `ObjectiveTrainer` does, as a named stage of a run that can be interrupted and gone on with.

    Args:
        plan: of the last stage: what has to be done before it; done when this trainer runs for the first time, so that
            a client that only builds a trainer and calls it gets it done as well. None: an earlier stage.
        run: of the config.
        name: of the stage; part of its seeds, its checkpoint's file and its curves.
        max_epochs: epochs; the data loader's length is the length of one.
        train_data_loader: batches are dicts.
        network, objective, optimizer, lr_scheduler, amp: see `ObjectiveTrainer`.
        train_handlers: what the method does at certain epochs or steps, before progress and checkpoint; a list among
            them holds a client's own, which come last. None is left out.

    Raises:
        InputError: max_epochs is no whole number.
    """

    def __init__(
        self,
        run: Run,
        name: str,
        max_epochs: int,
        train_data_loader: DataLoader,
        network: nn.Module,
        objective: nn.Module,
        optimizer: Optimizer,
        lr_scheduler: LRScheduler | None = None,
        amp: bool = False,
        train_handlers: Sequence[Any] = (),
        plan: Preparation | None = None,
        **options: Any,
    ) -> None:
        self.name, self.plan, self.progress = name, plan, ProgressBar(name)
        methods = [handler for handler in train_handlers if not isinstance(handler, list)]
        clients = [handler for entry in train_handlers if isinstance(entry, list) for handler in entry]
        self._log_dir = str(run.output_dir) if plan is not None and run.rank == 0 else None
        checkpoint = StageCheckpoint(str(run.checkpoint(name)), name, run.seed, run.save_every, run.resume, run)
        super().__init__(
            device=run.device,
            max_epochs=number("epochs", max_epochs, whole=True, least=0),
            train_data_loader=train_data_loader,
            network=network,
            objective=objective,
            optimizer=optimizer,
            lr_scheduler=lr_scheduler,
            amp=truth("amp", amp),
            train_handlers=[*methods, self.progress, StageCost(run, name), checkpoint, *clients],
            **options,
        )
        if plan is not None:
            plan.trainers[name] = self

    @property
    def settings(self) -> dict[str, Any]:
        """What the stage was built with, for run.json."""
        return {
            "max_epochs": self.state.max_epochs,
            "epoch_length": self.state.epoch_length,
            "batch_size": self.data_loader.batch_size,
            "amp": self.bfloat16,
            "objective": {"name": type(self.objective).__name__, **settings_of(self.objective)},
            "optimizer": {"name": type(self.optimizer).__name__, **settings_of(self.optimizer.defaults)},
            "lr_scheduler": type(self.lr_scheduler).__name__,
            "augmentation": augmentation_of(getattr(self.data_loader.dataset, "transform", None)),
        }

    def run(self) -> None:
        """Do what comes before, once; then run the epochs that are left."""
        if self.plan is not None:
            self.plan.prepare()
        if self._log_dir is not None:  # only now: the handler writes a file, and a wrong data set leaves none
            options = {"tag_name": "loss", "output_transform": _loss, "iteration_log": True}
            TensorBoardStatsHandler(log_dir=self._log_dir, **options).attach(self)
            self._log_dir = None
        one = rehearsal()
        if one is None:
            super().run()
            return
        with one.stage(self.name, unit="steps", training=True) as measured:
            FewSteps(measured).attach(self)
            super().run()


def augmentation_of(transform: Any) -> dict[str, Any] | None:
    """Return the settings of the `Augmentation` among transforms; None where there is none."""
    if isinstance(transform, Augmentation):
        return transform.settings
    found = (augmentation_of(one) for one in getattr(transform, "transforms", ()))
    return next((settings for settings in found if settings is not None), None)


def _loss(output: Any) -> Any:
    return output["loss"]
