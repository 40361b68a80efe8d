"""One volume as it is stored, and the words for one that is no usable volume."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

SHOWN_VALUES = 5
SMALLEST_SPACING = 1e-6  # mm


class Unreadable(Exception):
    """A file that is no usable volume; the text goes after its name in the line of the problem."""


@dataclass(frozen=True)
class Volume:
    """One volume as stored: voxels [H, W, D] in the file's own axis order, and its affine to RAS mm."""

    array: np.ndarray
    affine: np.ndarray


def require_3d(shape: Sequence[int], dtype: np.dtype) -> None:
    """Refuse by the header alone, before the voxels are read."""
    if dtype.fields is not None:
        raise Unreadable(f"voxels are {'/'.join(dtype.names)} colours, shape {tuple(shape)}; wanted one grey channel")
    if dtype.kind == "c":
        raise Unreadable(f"voxels are complex ({dtype}), shape {tuple(shape)}; wanted real numbers")
    if len(shape) != 3:
        raise Unreadable(f"shape {tuple(shape)}; wanted 3 dimensions")
    if min(shape) < 2:
        raise Unreadable(f"shape {tuple(shape)}; wanted 3 dimensions of 2 voxels or more")


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its kind."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def last_line(error: BaseException) -> str:
    """Return the last line of what an error says, or its kind: readers in C++ tell of their own places first."""
    return next(iter(reversed(str(error).strip().splitlines())), type(error).__name__)


def numbers_text(values: Iterable[float]) -> str:
    """Return some numbers as a text, the first few of them and how many more there are."""
    values = list(values)
    more = f" and {len(values) - SHOWN_VALUES} more" if len(values) > SHOWN_VALUES else ""
    return ", ".join(f"{value:g}" for value in values[:SHOWN_VALUES]) + more
