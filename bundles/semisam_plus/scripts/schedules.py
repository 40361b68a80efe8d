"""How the weights of SemiSAM+ change over training: pure functions of the step."""

from __future__ import annotations

import math


def ramp_up(step: float, length: float) -> float:
    """Return exp(-5 (1 - step/length)^2), step clipped to 0..length; 1 where length is 0 (Laine and Aila 2017)."""
    if length <= 0:
        return 1.0
    return math.exp(-5 * (1 - min(max(step / length, 0.0), 1.0)) ** 2)


def ramp_down(step: float, total: float, length: float) -> float:
    """Return the ramp over the steps that are left: 1 until `length` steps before the end, exp(-5) at the end."""
    return ramp_up(total - step, length)


def teacher_alpha(step: int, ema_alpha: float) -> float:
    """Return min(1 - 1/(step + 1), ema_alpha): step 0 copies the student, early steps average all weights evenly."""
    return min(1 - 1 / (step + 1), ema_alpha)


def entropy_threshold(progress: float, classes: int) -> float:
    """Return (3/4 + ramp/4) ln(classes) in nats: below it UA-MT trusts its teacher. `progress` is 0 to 1."""
    return (0.75 + 0.25 * ramp_up(progress, 1.0)) * math.log(classes)
