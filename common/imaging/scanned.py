"""Which voxels of a volume were scanned, and which only fill it up to a box."""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy import ndimage

LEAST_SHARE = 1e-3  # of the volume: less moves no percentile, and noise has as many equal neighbours
SPARSE = 16  # voxels


def find_padding(volume: np.ndarray) -> np.ndarray | None:
    """Return the voxels that no scanner has measured: padding, the corners beyond a round field of view, masked air.

    They have exactly one value and reach a corner of the volume from face to face, as any padding around a convex field
    of view does; or they are a whole slice of one value, along any axis. Which value it is doesn't matter, but for the
    brightest one where it is found inside too: that is saturation, which was scanned. What is left is looked at again
    within its own box, so that a scan with air of exactly one value is the same with a frame around it and without.

    Args:
        volume: [H, W, D], any real dtype.

    Returns:
        [H, W, D] bool; None where all counts as scanned, less than a thousandth aside, or nothing would.
    """
    padding, box = np.zeros(volume.shape, bool), tuple(slice(0, n) for n in volume.shape)
    while True:
        inner = volume[box]
        found = _constant_slices(inner) | _constant_corners(inner)
        if found.all():
            return None
        if found.mean() < LEAST_SHARE:
            break
        padding[box] |= found
        rest = ndimage.find_objects((~found).astype(np.uint8))[0]
        if found[rest].size == found.size:
            break
        box = tuple(slice(b.start + r.start, b.start + r.stop) for b, r in zip(box, rest, strict=True))
    return padding if padding.any() else None


def _constant_slices(volume: np.ndarray) -> np.ndarray:
    found = np.zeros(volume.shape, bool)
    for axis in range(3):
        slices, marked = np.moveaxis(volume, axis, 0), np.moveaxis(found, axis, 0)
        some = slices[:, ::SPARSE, ::SPARSE]  # tells most slices apart from constant ones in no time
        for index in np.flatnonzero(some.min(axis=(1, 2)) == some.max(axis=(1, 2))):
            marked[index] |= bool((slices[index] == slices[index, 0, 0]).all())
    return found


def _constant_corners(volume: np.ndarray) -> np.ndarray:
    found = np.zeros(volume.shape, bool)
    if min(volume.shape) < 2:
        return found
    corners = [corner for corner in product((0, -1), repeat=3) if _goes_on(volume, corner)]
    highest = volume.max()
    for value in {volume[corner].item() for corner in corners}:
        same = volume == value
        if np.count_nonzero(same) < LEAST_SHARE * same.size:
            continue
        pieces, count = ndimage.label(same)
        reached = np.zeros(count + 1, bool)
        reached[[pieces[corner] for corner in corners]] = True
        reached[0] = False
        region = reached[pieces]
        saturation = value == highest and (same & ~region).any()
        if np.count_nonzero(region) >= LEAST_SHARE * region.size and not saturation:
            found |= region
    return found


def _goes_on(volume: np.ndarray, corner: tuple[int, ...]) -> bool:
    """Whether a neighbour of a corner has its value; in noise that is seldom, and looking for more takes longer."""
    steps = ({**dict(enumerate(corner)), axis: 1 if corner[axis] == 0 else -2} for axis in range(3))
    return any(volume[tuple(step[axis] for axis in range(3))] == volume[corner] for step in steps)
