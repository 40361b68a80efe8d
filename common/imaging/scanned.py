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
    corners = list(product(*((0, n - 1) for n in volume.shape)))
    highest = volume.max()
    for value in {volume[corner].item() for corner in corners}:
        same = volume == value
        if same.mean() < LEAST_SHARE:
            continue
        pieces = ndimage.label(same)[0]
        reached = {int(pieces[corner]) for corner in corners} - {0}
        region = np.isin(pieces, list(reached))
        saturation = value == highest and (same & ~region).any()
        if region.mean() >= LEAST_SHARE and not saturation:
            found |= region
    return found
