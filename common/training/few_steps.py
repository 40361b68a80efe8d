"""A training in a dry run: a few steps of an epoch in the middle and of the last one, and what all of them take."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from ignite.engine import Engine, Events
from monai.data import decollate_batch
from torch import Tensor, nn

from ..costs.line import NONE, Clock
from ..tensors import plain

LEAST, MOST, SECONDS = 2, 12, 1.5  # steps of an epoch behind its first one: so many, then as long as that takes
TAUGHT = ("target", "pseudo_label", "label")  # what a network's answer is compared with, in a batch
UNSURE = 1e-3  # least probability of a class


class FewSteps:
    """Ignite handler: begin in the middle of a training, end each epoch after a few steps, and go on with the last one.

    What a method does from some epoch on is done by then. The first step of an epoch counts as what an epoch costs
    besides. The network, which has learnt nothing, answers with the fullest label that it was shown from then on, where
    it is no longer trained: how long regions, surfaces and a second level take hangs on that.

    Args:
        measured: of the stage, see `Rehearsal.stage`.
    """

    def __init__(self, measured: Any) -> None:
        self.measured = measured
        self.visited, self.steps, self.saves = 0, 0, 0
        self._moments: list[Clock] = []
        self._taken: list[Clock] = []  # by a step that isn't the first one of an epoch
        self._first = self._save = NONE
        self._label: Tensor | None = None

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_STARTED, self._epoch_starts)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._step_ends)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch_ends)
        engine.add_event_handler(Events.COMPLETED, self._tell)

    def _start(self, engine: Engine) -> None:
        engine.sit_out(max(0, (engine.state.max_epochs + 1) // 2 - 1))

    def _epoch_starts(self) -> None:
        self._moments = [Clock.now()]

    def _step_ends(self, engine: Engine) -> None:
        self._moments.append(Clock.now())
        self.steps += 1
        self._look_at(engine)
        behind = len(self._moments) - 2
        if behind >= MOST or (behind >= LEAST and self._moments[-1].since(self._moments[1]).wall > SECONDS):
            if behind + 1 < engine.state.epoch_length:
                engine.terminate_epoch()

    def _epoch_ends(self, engine: Engine) -> None:
        now, moments = Clock.now(), self._moments
        steps = [after.since(before) for before, after in pairwise(moments)]
        self._taken += steps[1:]
        self._first = steps[0]
        self.visited += 1
        if _saves(engine, engine.state.epoch):
            self.saves += 1
            self._save = now.since(moments[-1])
        left = engine.state.max_epochs - engine.state.epoch - 1
        if left > 0:
            engine.sit_out(left)

    def _tell(self, engine: Engine) -> None:
        """Say how long all steps take."""
        line, state = self.measured.line, engine.state
        if self.visited:
            taken = self._taken or [self._first]
            line.each = Clock(*(sum(values) / len(taken) for values in zip(*taken, strict=True)))
        line.here, line.count = self.steps, state.max_epochs * state.epoch_length
        line.learnt = sum(p.numel() for group in engine.optimizer.param_groups for p in group["params"])
        saves = sum(_saves(engine, epoch) for epoch in range(1, state.max_epochs + 1))
        begins = Clock(*(max(0.0, value) for value in self._first.since(line.each)))
        more = NONE.more(line.each, line.count - self.steps)
        line.more = more.more(begins, state.max_epochs - self.visited).more(self._save, saves - self.saves)
        found = [path.stat().st_size for path in (engine.checkpoint.path, engine.checkpoint.previous) if path.exists()]
        if found:
            self.measured.files = (sum(found), min(2, saves) * found[0])
        if self._label is not None:
            answer_with(engine.network, self._label)

    def _look_at(self, engine: Engine) -> None:
        """Keep the fullest label, [K, H, W, D], of a batch."""
        batch = engine.state.batch
        for item in batch if isinstance(batch, list) else decollate_batch(batch):
            shown = (plain(item[name]) for name in TAUGHT if isinstance(item.get(name), Tensor))
            label = next((one for one in shown if one.ndim == 4 and len(one) > 1), None)
            if label is not None and (self._label is None or label[1:].sum() > self._label[1:].sum()):
                self._label = label.detach().float().cpu().clone()


def answer_with(network: nn.Module, label: Tensor) -> None:
    """Let a network that is not being trained answer with a label [K, H, W, D] of probabilities, whatever it is shown;
    it computes its own answer all the same."""
    logits = label.clamp_min(UNSURE).log()

    def answer(module: nn.Module, shown: Any, own: Any) -> Any:
        if module.training or not isinstance(own, Tensor) or own.shape[1:] != logits.shape:
            return own
        return logits.to(own)[None].expand_as(own)

    network.register_forward_hook(answer)


def _saves(engine: Engine, epoch: int) -> bool:
    return epoch % engine.checkpoint.save_every == 0 or epoch == engine.state.max_epochs
