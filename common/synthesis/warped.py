"""A labelled scan in another shape, with its label warped exactly alike."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..imaging.registration import integrate, total_ddf, warp

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


def warp_pair(image: Tensor, label: Tensor, affine: Tensor, velocity: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return an image [C, H, W, D] and its label [K, H, W, D] under an affine and a velocity, by one interpolation.

    Args:
        image, label: [1, C, H, W, D] and [1, K, H, W, D], one grid.
        affine: [1, 3, 4], see `total_ddf`.
        velocity: [3, h, w, d], see `integrate`; None for none.
    """
    size = tuple(image.shape[2:])
    ddf = None if velocity is None else integrate(velocity[None].to(image.device), size)
    both = warp(torch.cat([image, label.to(image)], dim=1), total_ddf(affine, ddf, size))[0]
    return both[: image.shape[1]], both[image.shape[1] :]
