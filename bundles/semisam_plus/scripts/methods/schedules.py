"""How the weights of SemiSAM+ change over training: pure functions of the step."""

from __future__ import annotations

import math

from ..common.learning.schedules import ramp_up


def ramp_down(step: float, total: float, length: float) -> float:
    """Return the ramp over the steps that are left: 1 until `length` steps before the end, exp(-5) at the end."""
    return ramp_up(total - step, length)


def entropy_threshold(progress: float, classes: int) -> float:
    """Return (3/4 + ramp/4) ln(classes) in nats: below it UA-MT trusts its teacher. `progress` is 0 to 1."""
    return (0.75 + 0.25 * ramp_up(progress, 1.0)) * math.log(classes)
