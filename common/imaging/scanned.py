"""Which voxels of a volume were scanned, and which only fill it up to a box."""

from __future__ import annotations

from itertools import product

import numpy as np

from .flood import flood, pack, unpack

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
    lines = tuple(reversed(range(3))) if volume.flags.f_contiguous else (0, 1, 2)  # as they lie in memory
    found = _find(volume.transpose(lines))
    return None if found is None else found.transpose(lines)


def _find(volume: np.ndarray) -> np.ndarray | None:
    padding, box = np.zeros(volume.shape, bool), tuple(slice(0, n) for n in volume.shape)
    while True:
        inner = volume[box]
        found = _constant_corners(inner)
        _add_constant_slices(inner, found)
        share = np.count_nonzero(found) / found.size
        if share == 1:
            return None
        if share < LEAST_SHARE:
            break
        padding[box] |= found
        rest = _box_of_false(found)
        if found[rest].size == found.size:
            break
        box = tuple(slice(b.start + r.start, b.start + r.stop) for b, r in zip(box, rest, strict=True))
    return padding if padding.any() else None


def _box_of_false(mask: np.ndarray) -> tuple[slice, ...]:
    """Return the smallest box around what is False in a mask [H, W, D] that is not True everywhere."""
    planes = mask.all(axis=2)
    filled = (~planes.all(axis=1), ~planes.all(axis=0), ~mask.all(axis=0).all(axis=0))
    return tuple(slice(int(some.argmax()), len(some) - int(some[::-1].argmax())) for some in filled)


def _add_constant_slices(volume: np.ndarray, found: np.ndarray) -> None:
    for axis in range(3):
        slices, marked = np.moveaxis(volume, axis, 0), np.moveaxis(found, axis, 0)
        some = slices[:, ::SPARSE, ::SPARSE]  # tells most slices apart from constant ones in no time
        for index in np.flatnonzero(some.min(axis=(1, 2)) == some.max(axis=(1, 2))):
            marked[index] |= bool((slices[index] == slices[index, 0, 0]).all())


def _constant_corners(volume: np.ndarray) -> np.ndarray:
    if min(volume.shape) < 2:
        return np.zeros(volume.shape, bool)
    corners = [corner for corner in product((0, -1), repeat=3) if _goes_on(volume, corner)]
    places = [tuple(index % n for index, n in zip(corner, volume.shape, strict=True)) for corner in corners]
    region = None
    for value in {volume[corner].item() for corner in corners}:
        same = volume == value
        if np.count_nonzero(same) < LEAST_SHARE * same.size:
            continue
        words = pack(same)
        del same
        reached = flood(words, [place for place in places if volume[place] == value])
        if np.bitwise_count(reached).sum() < LEAST_SHARE * volume.size:
            continue
        if value == volume.max() and (words & ~reached).any():
            continue  # saturation
        region = reached if region is None else region | reached
    return np.zeros(volume.shape, bool) if region is None else unpack(region, volume.shape[-1])


def _goes_on(volume: np.ndarray, corner: tuple[int, ...]) -> bool:
    """Whether a neighbour of a corner has its value; in noise that is seldom, and looking for more takes longer."""
    steps = ({**dict(enumerate(corner)), axis: 1 if corner[axis] == 0 else -2} for axis in range(3))
    return any(volume[tuple(step[axis] for axis in range(3))] == volume[corner] for step in steps)
