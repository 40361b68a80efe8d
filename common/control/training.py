"""A plain network of the labels alone, trained beside the method: what the method has to beat."""

from __future__ import annotations

import copy
import warnings
from abc import abstractmethod
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from ..errors import printable
from ..files.tensor_files import atomic_save
from ..launch.words import number, truth
from ..levels.network import deployed, locate_then_segment
from ..run.run import Run
from ..training.stage import Stage

NAME, FILE = "control", "control.pt"


class PlainControl:
    """Train a copy of the network from the same start, with the same optimizer, schedule and steps, on labels alone.

    It is built before the method learns anything. A second level of the method that learns from labels alone is the
    control's, too; one that learns from what the first level says is trained again for the control. A bundle's own
    class says what it learns from (`loader`) and by which loss (`objective`).

    Args:
        wanted: whether it is trained to compare with. No setting of run.json: a run that is done gets its control by
            `resume`.
        run: of the config.
        network: what the method trains on the first level, with its first weights.
        dataloader: of the method.
        optimizer, lr_scheduler: of the method, before its first step.
        epochs: of the method.
        amp: bfloat16.
        labeller: whose `self_training` says that it is trained anyway, before the method, which learns from what it
            says; None: nobody's.

    Attributes:
        network: copy that is trained; None where nobody wants it.
        deployed: what is scored and saved, with both levels where there are two; None before `run`, and after it of two
            levels that are not wanted.
    """

    def __init__(
        self,
        wanted: bool,
        run: Run,
        network: nn.Module,
        dataloader: DataLoader,
        optimizer: Optimizer,
        lr_scheduler: LRScheduler,
        epochs: int,
        amp: bool = False,
        labeller: Any = None,
    ) -> None:
        self.training_run, self.dataloader, self.amp = run, dataloader, amp
        self.epochs = int(number("epochs", epochs, whole=True, least=0))
        self.network: nn.Module | None = None
        self.deployed: nn.Module | None = None
        self.wanted = truth("plain_control", wanted)
        if self.wanted or (labeller is not None and labeller.self_training):
            # in one copy, so that the optimizer's parameters are the new network's
            self.network, self.optimizer, self.lr_scheduler = copy.deepcopy((network, optimizer, lr_scheduler))

    @abstractmethod
    def loader(self) -> DataLoader | None:
        """Return what the control learns from, with as many labelled items a step as the method has; None: nothing."""

    @abstractmethod
    def objective(self, network: nn.Module) -> nn.Module:
        """Return the loss of the labels: batch -> losses."""

    @property
    def epoch_length(self) -> int:
        """Steps of an epoch, over all processes."""
        return len(self.dataloader) * self.training_run.world_size

    @property
    def path(self) -> Path:
        """Where the weights go: a model.pt as any."""
        return self.training_run.ckpt_dir / FILE

    def train(self, plan: Any) -> bool:
        """Train the network of the first level, once; return whether there is one, and a label to learn from.

        Args:
            plan: its `trainers` get the stage.
        """
        if self.network is None:
            return False
        if NAME in plan.trainers:
            return True
        loader = self.loader()
        if loader is None:
            print("warning: plain_control: no label to learn from", flush=True)
            return False
        stage = Stage(
            self.training_run, NAME, self.epochs, loader, self.network, self.objective(self.network), self.optimizer,
            self.lr_scheduler, self.amp,
        )  # fmt: skip
        plan.trainers[NAME] = stage
        with warnings.catch_warnings():  # the copy of an optimizer doesn't know that a schedule counts its steps
            warnings.filterwarnings("ignore", "Seems like `optimizer.step")
            stage.run()
        return True

    def run(self, plan: Any, fine: Any) -> None:
        """Train the control and write its weights; nothing where it is not wanted, or where there is no label.

        One that was trained for the method is taken as it is where there is no second level to train for it.

        Args:
            plan: see `train`.
            fine: `FineTraining` of the method, done by now.
        """
        if self.network is None or not (self.wanted or fine.network is None) or not self.train(plan):
            return
        self.deployed = locate_then_segment(self.network, fine.network_for(self.network, NAME))
        if idist.get_rank() == 0:
            state = {name: tensor.cpu() for name, tensor in deployed(self.deployed).state_dict().items()}
            atomic_save(state, self.path)
            print(f"control: {printable(self.path)}", flush=True)
