"""Fields that a labelled scan is brought into other shapes by."""

from __future__ import annotations

import numpy as np
from torch import Tensor

LEAST, MOST = 0.5, 1.2  # of how far the velocities together go


def mix_velocities(own: Tensor | None, other: Tensor | None, random: np.random.RandomState) -> Tensor | None:
    """Return a * own + b * other, a + b uniform in [0.5, 1.2] and shared at random (Zhao et al. 2019 sample likewise).

    Args:
        own, other: [3, h, w, d]; None counts as 0.

    Returns:
        [3, h, w, d]; None where both are.
    """
    total, share = random.uniform(LEAST, MOST), random.uniform(0.0, 1.0)
    parts = [(total * share, own), (total * (1 - share), other)]
    found = [weight * velocity for weight, velocity in parts if velocity is not None]
    return sum(found[1:], found[0]) if found else None
