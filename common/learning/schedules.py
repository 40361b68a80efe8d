"""How rates and weights of a training change over its steps."""

from __future__ import annotations

import math
import warnings

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler


def ramp_up(step: float, length: float) -> float:
    """Return exp(-5 (1 - step/length)^2), step clipped to 0..length; 1 where length is 0 (Laine and Aila 2017)."""
    if length <= 0:
        return 1.0
    return math.exp(-5 * (1 - min(max(step / length, 0.0), 1.0)) ** 2)


def teacher_alpha(step: int, ema_alpha: float) -> float:
    """Return min(1 - 1/(step + 1), ema_alpha): step 0 copies the student, early steps average all weights evenly."""
    return min(1 - 1 / (step + 1), ema_alpha)


def warm_cosine(step: int, total_steps: int, warm_up: float) -> float:
    """Return the share of the largest rate at a step: it rises evenly, then falls by half a cosine (Loshchilov 2017).

    Args:
        step: from 0; beyond the last one it stays 0.
        total_steps: of the whole training.
        warm_up: share of them in which it rises.
    """
    rising = min((step + 1) / (warm_up * total_steps), 1.0) if warm_up > 0 else 1.0
    return rising * 0.5 * (1 + math.cos(math.pi * min(step / total_steps, 1.0)))


class WarmCosineLR(LambdaLR):
    """Learning rates that follow `warm_cosine`.

    Args:
        optimizer: each of its groups keeps its own largest rate.
        total_steps, warm_up: see `warm_cosine`.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int, warm_up: float = 0.05) -> None:
        super().__init__(optimizer, lambda step: warm_cosine(step, max(total_steps, 1), warm_up))


def advance(schedule: LRScheduler, step: int) -> None:
    """Bring a schedule to a step as if it had led there, with the rates of its own length, whatever its optimizer did.

    Loading its state instead would bring back the length of the run that saved it, by which a longer one ends at 0.

    Args:
        schedule: at that step or before, as when it is built; one that knows its end stays there.
        step: of the optimizer, from 0.
    """
    step = min(step, getattr(schedule, "total_steps", step))  # OneCycleLR raises beyond
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")  # no optimizer's step: none is due
        while schedule.last_epoch < step:
            schedule.step()
