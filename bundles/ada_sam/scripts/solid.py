"""Probabilities of solid structures: smooth, in one piece, without holes, and only where they may be."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from scipy import ndimage
from torch import Tensor

from .common.preprocessing import gaussian_smooth
from .common.prompts import main_components


def keep_solid(
    probabilities: Tensor, inside: Tensor, smooth: float, one_piece: Sequence[int], fill_holes: bool
) -> Tensor:
    """Clean probabilities so that their largest class says the same.

    Args:
        probabilities: [K, H, W, D], summing to 1 over K, background first.
        inside: bool [P, H, W, D] (or broadcast to it), where each class may be; elsewhere it becomes 0.
        smooth: of the Gaussian in space, voxels; 0 for none.
        one_piece: indices 0 to P - 1 of the classes whose smaller components go to the background.
        fill_holes: background that a class encloses goes to the class.

    Returns:
        the same kind of probabilities.
    """
    result = probabilities.float().clone()
    if smooth:
        result = gaussian_smooth(result, smooth)
    result[1:] *= inside
    result[0] = 1 - result[1:].sum(0)
    hard = result.argmax(0)
    for index in range(len(result) - 1):
        label = index + 1
        own = hard == label
        if not bool(own.any()):
            continue
        if index in one_piece:
            largest = main_components(own, share=1.0)[0]
            rest = own & ~largest
            result[0] = torch.where(rest, result[0] + result[label], result[0])
            result[label] = torch.where(rest, 0.0, result[label])
            own = largest
        if fill_holes:
            filled = torch.from_numpy(ndimage.binary_fill_holes(own.cpu().numpy())).to(own.device)
            holes = filled & (hard == 0) & inside[index]
            # the hole's probabilities change places, so that they go on to sum to 1
            before = result[0].clone()
            result[0] = torch.where(holes, result[label], before)
            result[label] = torch.where(holes, before, result[label])
    return result
