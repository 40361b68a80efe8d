"""Where a fine network has to look, from what a coarse one found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from torch import Tensor

FOUND = (
    0.3  # probability of any structure from which on a place is looked at; never the cleaned map: it loses the small
)
LEAST = 0.02  # share of all that was found, that a separate place has to hold

Box = tuple[slice, ...]


def find_regions(probabilities: Tensor, margin: Sequence[float]) -> list[Box]:
    """Return boxes of voxels around all that may be foreground; none where nothing is.

    Args:
        probabilities: [K, H, W, D], background first.
        margin: voxels around it, one number an axis.

    Returns:
        boxes that don't overlap, the largest share of foreground first.
    """
    there = (1 - probabilities[0]).clamp(0, 1).float().cpu().numpy()
    found = there > FOUND
    if not found.any():
        return []
    pieces, count = ndimage.label(found, np.ones((3, 3, 3)))
    mass = ndimage.sum_labels(there, pieces, np.arange(1, count + 1))
    kept = [box for box, m in zip(ndimage.find_objects(pieces), mass, strict=True) if m >= LEAST * mass.sum()]
    shape, reach = there.shape, [int(np.ceil(m)) for m in margin]
    grown: list[Box] = [
        tuple(slice(max(s.start - r, 0), min(s.stop + r, n)) for s, r, n in zip(box, reach, shape, strict=True))
        for box in kept
    ]
    return merge_boxes(grown)


def merge_boxes(boxes: Sequence[Box]) -> list[Box]:
    """Return boxes of which no two overlap: those that do become the smallest one around both."""
    merged: list[Box] = []
    for box in boxes:
        while True:
            met = next((other for other in merged if _overlap(box, other)), None)
            if met is None:
                break
            merged.remove(met)
            box = tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(box, met, strict=True))
        merged.append(box)
    return merged


def merge_all(boxes: Sequence[Box]) -> Box:
    """Return the smallest box around all boxes, of which there is one at least."""
    axes = zip(*boxes, strict=True)
    return tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in axes)


def scale_box(
    box: Box, ratios: Sequence[float], shifts: Sequence[float], size: Sequence[int], least: Sequence[int]
) -> Box:
    """Return a box of one grid on another, of at least a size where there is room.

    Args:
        box: voxels.
        ratios, shifts: position on the other grid = ratio * position + shift, one number an axis.
        size: of the other grid, voxels.
        least: voxels.
    """
    scaled = []
    for s, ratio, shift, n, wanted in zip(box, ratios, shifts, size, least, strict=True):
        start = int(np.floor((s.start - 0.5) * ratio + shift + 0.5))
        length = max(int(np.ceil((s.stop - s.start) * ratio)), 1)
        grown = min(max(length, wanted), n)
        start = min(max(start - max(grown - length, 0) // 2, 0), n - grown)
        scaled.append(slice(start, start + grown))
    return tuple(scaled)


def _overlap(one: Box, other: Box) -> bool:
    return all(a.start < b.stop and b.start < a.stop for a, b in zip(one, other, strict=True))
