"""Probabilities of solid structures: smooth, in one piece, without holes, and only where they may be."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from scipy import ndimage
from torch import Tensor

from .morphology import gaussian_smooth, main_components


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
    result = torch.empty_like(probabilities, dtype=torch.float32)
    for index, one in enumerate(probabilities):  # smoothed together, many classes would take their memory several times
        result[index] = gaussian_smooth(one.float()[None], smooth)[0] if smooth else one
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
