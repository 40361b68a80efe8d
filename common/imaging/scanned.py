"""Which voxels of a volume were scanned, and which only fill it up to a box."""

from __future__ import annotations

from itertools import product

import numpy as np

from .flood import count_voxels, flood, pack, unpack

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
        inner, known = volume[box], padding[box]
        reached, slices = _constant_corners(inner, known), _constant_slices(inner)
        if reached is None and sum(known[index].size for index in slices) < LEAST_SHARE * known.size:
            break
        if reached is not None:
            known |= unpack(reached, known.shape[-1])
        for index in slices:
            known[index] = True
        if known.all():
            return None
        rest = _box_of_false(known)
        if known[rest].size == known.size:
            break
        box = tuple(slice(b.start + r.start, b.start + r.stop) for b, r in zip(box, rest, strict=True))
    return padding if padding.any() else None


def _box_of_false(mask: np.ndarray) -> tuple[slice, ...]:
    """Return the smallest box around what is False in a mask [H, W, D] that is not True everywhere."""
    filled = [~np.asarray(mask.all(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    return tuple(slice(int(some.argmax()), len(some) - int(some[::-1].argmax())) for some in filled)


def _constant_slices(volume: np.ndarray) -> list[tuple[slice | int, ...]]:
    """Return the index of each slice, along any axis, that has one value."""
    found: list[tuple[slice | int, ...]] = []
    for axis in range(3):
        slices, all_before = np.moveaxis(volume, axis, 0), (slice(None),) * axis
        some = slices[:, ::SPARSE, ::SPARSE]  # tells most slices apart from constant ones in no time
        for index in np.flatnonzero(some.min(axis=(1, 2)) == some.max(axis=(1, 2))):
            if (slices[index] == slices[index, 0, 0]).all():
                found.append((*all_before, int(index)))
    return found


def _constant_corners(volume: np.ndarray, known: np.ndarray) -> np.ndarray | None:
    """Return the packed padding that is reached from the corners not known for it yet; None where there is none."""
    if min(volume.shape) < 2:
        return None
    corners = [corner for corner in product((0, -1), repeat=3) if not known[corner] and _goes_on(volume, corner)]
    places = [tuple(index % n for index, n in zip(corner, volume.shape, strict=True)) for corner in corners]
    region = None
    for value in {volume[corner].item() for corner in corners}:
        same = volume == value
        if np.count_nonzero(same) < LEAST_SHARE * same.size:
            continue
        words = pack(same)
        del same
        reached = flood(words, [place for place in places if volume[place] == value])
        if count_voxels(reached) < LEAST_SHARE * volume.size:
            continue
        if value == volume.max() and (words & ~reached).any():
            continue  # saturation
        region = reached if region is None else region | reached
    return region


def _goes_on(volume: np.ndarray, corner: tuple[int, ...]) -> bool:
    """Whether a neighbour of a corner has its value; in noise that is seldom, and looking for more takes longer."""
    steps = ({**dict(enumerate(corner)), axis: 1 if corner[axis] == 0 else -2} for axis in range(3))
    return any(volume[tuple(step[axis] for axis in range(3))] == volume[corner] for step in steps)
