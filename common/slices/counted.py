"""Slices as a viewer of the stored file counts them: from 1, along the file's own axis."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from monai.data.utils import affine_to_spacing


class Counted(NamedTuple):
    """A slice of a file: `number` (from 1) of `of`, along the file's axis `axis` (0, 1 or 2)."""

    axis: int
    number: int
    of: int


def count_slice(
    affine: Any, size: Sequence[int], axis: int, index: int, file_affine: Any, file_size: Sequence[int]
) -> Counted:
    """Return which slice of a file a slice of another grid is: the one that the middle of it lies on.

    Args:
        affine, size: of the grid, [4, 4] to mm and three numbers of voxels.
        axis, index: of the slice on the grid, from 0.
        file_affine, file_size: of the file as stored.

    Of a slice beyond the file it is the file's first or last one.
    """
    middle = (np.asarray(size, dtype=float)[:3] - 1) / 2
    middle[axis] = index
    to_file = np.linalg.inv(np.asarray(file_affine, dtype=float)) @ np.asarray(affine, dtype=float)
    millimetres = to_file[:3, axis] * np.asarray(affine_to_spacing(np.asarray(file_affine, dtype=float), r=3))
    along = int(np.abs(millimetres).argmax())
    place = round(float((to_file @ [*middle, 1.0])[along]))
    return Counted(along, int(np.clip(place, 0, file_size[along] - 1)) + 1, int(file_size[along]))


def thick_axis(affine: Any) -> int:
    """Return the array axis along which the slices of a scan count: of the largest spacing; of equal ones the last."""
    spacing = np.asarray(affine_to_spacing(np.asarray(affine, dtype=float), r=3))
    return int(np.flatnonzero(spacing >= spacing.max() * 0.999)[-1])


def in_ranges(numbers: Iterable[int]) -> str:
    """Return whole numbers as people write them: 3, 5 to 8, 12."""
    ordered, parts = sorted(set(numbers)), []
    while ordered:
        run = 1
        while run < len(ordered) and ordered[run] == ordered[0] + run:
            run += 1
        parts.append(str(ordered[0]) if run == 1 else f"{ordered[0]} to {ordered[run - 1]}")
        ordered = ordered[run:]
    return ", ".join(parts)
