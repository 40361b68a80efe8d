"""How weights of a training change over its steps: pure functions of the step."""

from __future__ import annotations

import math


def ramp_up(step: float, length: float) -> float:
    """Return exp(-5 (1 - step/length)^2), step clipped to 0..length; 1 where length is 0 (Laine and Aila 2017)."""
    if length <= 0:
        return 1.0
    return math.exp(-5 * (1 - min(max(step / length, 0.0), 1.0)) ** 2)


def teacher_alpha(step: int, ema_alpha: float) -> float:
    """Return min(1 - 1/(step + 1), ema_alpha): step 0 copies the student, early steps average all weights evenly."""
    return min(1 - 1 / (step + 1), ema_alpha)
