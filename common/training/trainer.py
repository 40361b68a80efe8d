"""The one trainer of all bundles: it asks an objective for the losses, and scales, clips, steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from ..learning.schedules import advance
from ..precision import training_autocast
from ..tensors import to_plain


class ObjectiveTrainer(SupervisedTrainer):
    """Train whatever an objective holds, on any number of processes.

    An objective is a module whose forward takes the batch (a dict) and returns a dict of scalars with the key `loss`;
    the other entries are logged. Where torch.distributed is initialised the objective runs under
    DistributedDataParallel. A loss or gradient that is not finite ends the run and reaches no weight.

    Args:
        device: where batches and the objective go.
        max_epochs: epochs; the data loader's length is the length of one.
        train_data_loader: batches are dicts.
        network: what is deployed; the objective holds it too. Federated clients read and write its weights.
        objective: batch -> losses.
        optimizer: over the objective's parameters.
        lr_scheduler: stepped after every iteration.
        amp: bfloat16 autocast; no scaler is needed, and objectives compute losses in float32.
        clip_norm: largest norm of the gradient; None for none.
        train_handlers: named handlers of the config.

    `run` may be called again with a higher `state.max_epochs`, as in federated rounds: it goes on, and an objective
    with `begin_round` is told first that the network may hold other weights than it had left there.
    """

    def __init__(
        self,
        device: str | torch.device,
        max_epochs: int,
        train_data_loader: DataLoader,
        network: nn.Module,
        objective: nn.Module,
        optimizer: Optimizer,
        lr_scheduler: LRScheduler | None = None,
        amp: bool = False,
        clip_norm: float | None = 5.0,
        train_handlers: Sequence | None = None,
        **kwargs: Any,
    ) -> None:
        self.objective = objective.to(device)
        self.lr_scheduler = lr_scheduler
        self.clip_norm = clip_norm
        self.checkpoint = None
        # a handler that the config disables (on ranks above 0, say) arrives as None
        handlers = [handler for handler in train_handlers or [] if handler is not None]
        self.stateful: dict[str, Any] = {type(h).__name__: h for h in handlers if hasattr(h, "load_state_dict")}
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            train_data_loader=train_data_loader,
            network=network.to(device),
            optimizer=optimizer,
            loss_function=None,
            train_handlers=handlers,
            amp=False,
            **kwargs,
        )
        self.bfloat16 = amp
        self._parallel: nn.Module | None = None
        self._runs = 0
        self.state.losses = {}

    def run(self) -> None:
        """Run the epochs that are left; nothing if a finished checkpoint is resumed."""
        again, self._runs = self._runs > 0, self._runs + 1
        if again:  # a checkpoint is older than the weights that a further round begins with
            if hasattr(self.objective, "begin_round"):
                self.objective.begin_round()
        elif self.checkpoint is not None and self.checkpoint.load(self) and self.state.epoch >= self.state.max_epochs:
            return
        self.objective.train()
        super().run()

    def sit_out(self, epochs: int) -> None:
        """Let epochs of a federated training pass without learning: schedules go on, so that they end with the others'.

        An objective that counts its training forwards does so in a buffer `step`.
        """
        steps = epochs * self.state.epoch_length
        self.state.epoch += epochs
        self.state.iteration += steps
        if hasattr(self.objective, "step"):
            self.objective.step += steps
        if self.lr_scheduler is not None:
            advance(self.lr_scheduler, self.lr_scheduler.last_epoch + steps)
        self._runs += 1

    def _forward(self) -> nn.Module:
        if self._parallel is None:
            self._parallel = self.objective
            if idist.backend() is not None:
                ids = [self.state.device.index] if self.state.device.index is not None else None
                self._parallel = DistributedDataParallel(self.objective, device_ids=ids, find_unused_parameters=True)
        return self._parallel

    def _iteration(self, engine: Engine, batchdata: Mapping[str, Any]) -> dict[str, Any]:
        device = self.state.device
        batch = {name: to_plain(value, device) for name, value in batchdata.items()}
        self.network.train()
        with training_autocast(device, self.bfloat16):
            losses = self._forward()(batch)
        self.optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, math.inf if self.clip_norm is None else self.clip_norm)
        self.state.losses = {name: float(value.detach()) for name, value in losses.items()}
        # after backward: the gradients are averaged over the processes, so that all of them stop, not one
        require_finite({**self.state.losses, "gradient": float(norm)}, batchdata, self.state.epoch)
        self.optimizer.step()
        if self.lr_scheduler is not None:
            self.lr_scheduler.step()
        engine.state.output = {"loss": self.state.losses["loss"]}
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output

    def training_state(self) -> dict[str, Any]:
        """Return all that the next epoch depends on, as tensors and plain values."""
        return {
            "epoch": self.state.epoch,
            "iteration": self.state.iteration,
            "epoch_length": self.state.epoch_length,
            "objective": self.objective.state_dict(),
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "lr_scheduler": self.lr_scheduler.state_dict() if self.lr_scheduler else {},
            "handlers": {name: handler.state_dict() for name, handler in self.stateful.items()},
        }

    def load_training_state(self, content: Mapping[str, Any]) -> None:
        """Take over what `training_state` returned; of a schedule its step alone, so that it keeps its own length."""
        self.objective.load_state_dict(content["objective"])
        self.network.load_state_dict(content["network"])
        if self.lr_scheduler:
            advance(self.lr_scheduler, content["lr_scheduler"]["last_epoch"])
        led = [{key: value for key, value in group.items() if key != "params"} for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(content["optimizer"])
        if self.lr_scheduler:
            for group, own in zip(self.optimizer.param_groups, led, strict=True):
                group.update(own)
        for name, handler in self.stateful.items():
            if name in content["handlers"]:
                handler.load_state_dict(content["handlers"][name])
        self.state.epoch, self.state.iteration = content["epoch"], content["iteration"]


def require_finite(values: Mapping[str, float], batch: Mapping[str, Any], epoch: int) -> None:
    """Raise RuntimeError with the cases of the batch where a value is NaN or infinite; what is saved so far stays."""
    wrong = [name for name, value in values.items() if not math.isfinite(value)]
    if wrong:
        cases = batch.get("case", "?")
        names = cases if isinstance(cases, str) else ", ".join(str(case) for case in cases)
        raise RuntimeError(
            f"{', '.join(wrong)} not finite in epoch {epoch} for case {names}; "
            "what has been saved before is kept: lower learning_rate, or set amp to false"
        )
