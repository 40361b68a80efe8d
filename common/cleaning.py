"""What any segmentation gains from without a foundation model: smoothing, and its largest component of each class."""

from __future__ import annotations

import torch
from torch import Tensor

from .preprocessing import gaussian_smooth
from .prompts import main_components


def smooth_and_keep_largest(probabilities: Tensor, sigma: float = 1.0) -> Tensor:
    """Smooth probabilities in space and give each class's smaller components to the background.

    The control of every table: a method that costs a foundation model has to beat it.

    Args:
        probabilities: [K, H, W, D], summing to 1 over K.
        sigma: of the Gaussian, voxels.

    Returns:
        the same kind of probabilities.
    """
    smoothed = gaussian_smooth(probabilities.float(), sigma)
    hard = smoothed.argmax(0)
    for label in range(1, len(smoothed)):
        own = hard == label
        if bool(own.any()):
            rest = own & ~main_components(own, share=1.0)[0]
            smoothed[0] = torch.where(rest, smoothed[0] + smoothed[label], smoothed[0])
            smoothed[label] = torch.where(rest, 0.0, smoothed[label])
    return smoothed
