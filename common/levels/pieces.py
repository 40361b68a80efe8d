"""Structures that are one piece: known from labels, kept so in predictions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ..grid.native import largest

WHOLE = 0.95  # share of a label in its largest piece, from which on it counts as one: resampling cuts thin ends off
TOUCHING = np.ones((3, 3, 3))


def largest_share(label: Tensor, classes: int) -> list[float]:
    """Return for each class of a label map [H, W, D] which share of it its largest piece holds; NaN where it is not."""
    return [_share(mask) for mask in (label.cpu().numpy() == number for number in range(classes))]


def _share(mask: np.ndarray) -> float:
    if not mask.any():
        return float("nan")
    pieces, _ = ndimage.label(mask, TOUCHING)
    sizes = np.bincount(pieces.ravel())[1:]
    return float(sizes.max() / sizes.sum())


def keep_largest(probabilities: Tensor, classes: Sequence[int]) -> None:
    """Give all pieces of some classes but the largest to the background, in place; what is left says the same.

    A window that sees a part of a body alone finds organs where there are none; nnU-Net's postprocessing is the same.

    Args:
        probabilities: [K, H, W, D], background first.
        classes: that are one piece.
    """
    found = largest(probabilities).cpu().numpy()
    boxes = ndimage.find_objects(found)
    for number in classes:
        box = boxes[number - 1] if number <= len(boxes) else None
        if box is None:
            continue
        pieces, count = ndimage.label(found[box] == number, TOUCHING)
        if count < 2:
            continue
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0
        rest = torch.from_numpy((pieces > 0) & (pieces != sizes.argmax())).to(probabilities.device)
        own, background = probabilities[(number, *box)], probabilities[(0, *box)]
        background += own * rest
        own.masked_fill_(rest, 0)
