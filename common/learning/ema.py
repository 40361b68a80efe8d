"""Exponential moving averages of weights: two networks that average each other."""

from __future__ import annotations

import torch
from ignite.engine import Engine, Events
from torch import nn


@torch.no_grad()
def average_into(target: nn.Module, source: nn.Module, alpha: float) -> None:
    """Set every parameter of target to alpha * target + (1 - alpha) * source; buffers stay each network's own."""
    for t, s in zip(target.parameters(), source.parameters(), strict=True):
        t.lerp_(s, 1 - alpha)


@torch.no_grad()
def mutual_ema(general: nn.Module, medical: nn.Module, alpha: float = 0.99) -> None:
    """Average two networks of one architecture into each other, in the order of the RRL-MedSAM equations.

    general <- alpha general + (1 - alpha) medical, then medical <- alpha medical + (1 - alpha) general (the new one).
    One call scales their difference by alpha squared.
    """
    average_into(general, medical, alpha)
    average_into(medical, general, alpha)


@torch.no_grad()
def weight_gap(general: nn.Module, medical: nn.Module) -> float:
    """Return the norm of the difference of two networks' weights over the norm of the second's."""
    pairs = zip(general.parameters(), medical.parameters(), strict=True)
    difference = sum(float((g - m).square().sum()) for g, m in pairs)
    return (difference / max(sum(float(m.square().sum()) for m in medical.parameters()), 1e-12)) ** 0.5


class MutualEMA:
    """Ignite handler that calls `mutual_ema` after every `ema_every` iterations and logs the gap of the weights.

    Args:
        general, medical: modules with equal parameter shapes.
        alpha: share of the own weights kept, 0.99 in the paper.
        ema_every: iterations between two averagings; 1 as printed in the paper, 0 switches it off.
    """

    def __init__(self, general: nn.Module, medical: nn.Module, alpha: float = 0.99, ema_every: int = 1) -> None:
        if not 0 <= alpha <= 1 or ema_every < 0:
            raise ValueError(f"alpha {alpha} and ema_every {ema_every}: wanted 0 to 1, and at least 0")
        self.general, self.medical, self.alpha, self.ema_every = general, medical, alpha, ema_every

    def attach(self, engine: Engine) -> None:
        if self.ema_every:
            engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.ema_every), self.average)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.log_gap)

    def average(self, engine: Engine) -> None:
        mutual_ema(self.general, self.medical, self.alpha)

    def log_gap(self, engine: Engine) -> None:
        """Put the gap beside the losses of an epoch's last iteration, for the progress line and the curves."""
        if engine.state.iteration % engine.state.epoch_length == 0:
            gap = weight_gap(self.general, self.medical)
            engine.state.metrics["weight_gap"] = gap
            if hasattr(engine.state, "losses"):
                engine.state.losses["weight_gap"] = gap
