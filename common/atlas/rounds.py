"""Rounds of pseudo labels within one training."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events


class LabellingRounds:
    """Ignite handler: at the start of each round new pseudo labels, and from then on only the selected cases.

    The engine's sampler is a `StreamSampler`, whose `subset` is set.

    The labels of the first round are those that `AtlasLabeller.register` has made, if it has.

    Args:
        labeller: makes the labels (`AtlasLabeller`).
        rounds: number of rounds that the epochs are divided into.
        total_epochs: these epochs; None: the trainer's. A federated trainer knows only those of its present round.
    """

    def __init__(self, labeller: Any, rounds: int = 1, total_epochs: int | None = None) -> None:
        if rounds < 1:
            raise ValueError(f"rounds is {rounds}; wanted at least 1")
        self.labeller, self.rounds, self.total_epochs = labeller, rounds, total_epochs
        self._current = 0

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self.start_round)

    def start_round(self, engine: Engine) -> None:
        per_round = -(-(self.total_epochs or engine.state.max_epochs) // self.rounds)
        number = (engine.state.epoch - 1) // per_round + 1
        if number == self._current:
            return
        if number != self.labeller.round:
            self.labeller.label(number)
        engine.data_loader.sampler.subset = self.labeller.training_indices()
        self._current = number
