"""Label maps: whole numbers, but for the rounding of how they were stored."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.data import ImageReader
from monai.utils import ensure_tuple

from ..errors import InputError
from .image_reader import LoadImageVolumed, VolumeReader
from .read import read_volume
from .volume import SHOWN_VALUES, Volume

LABEL_TOLERANCE = 1e-3  # floats, and integers with a slope such as 1/255, are off by rounding alone


def round_labels(array: np.ndarray) -> np.ndarray:
    """Return the values within LABEL_TOLERANCE of a whole number as that number, all others as they are; same dtype."""
    if array.dtype.kind != "f":
        return array
    with np.errstate(invalid="ignore"):  # of Inf
        whole = np.rint(array)
        return np.where(abs(array - whole) <= LABEL_TOLERANCE, whole, array)


def find_fractions(array: np.ndarray) -> str | None:
    """Return in words what a rounded label map holds besides whole numbers; None where it holds nothing else."""
    if array.dtype.kind != "f":
        return None
    if not np.isfinite(array).all():
        return "the mask has NaN or Inf; wanted whole numbers"
    wrong = np.unique(array[array != np.rint(array)])
    if not wrong.size:
        return None
    # with so many digits that none looks whole
    shown = ", ".join(f"{round(float(value), 4):.9g}" for value in wrong[:SHOWN_VALUES])
    more = f" and {wrong.size - SHOWN_VALUES} more" if wrong.size > SHOWN_VALUES else ""
    return f"the mask has fractional values ({shown}{more}); wanted whole numbers"


def smallest_integers(array: np.ndarray) -> np.ndarray:
    """Return whole numbers as uint8 where that holds all of them, else as int32."""
    if array.dtype == np.uint8:
        return array
    return array.astype(np.uint8 if array.min() >= 0 and array.max() < 256 else np.int32)


def read_label(path: str | Path) -> Volume:
    """Read a label map as `read_volume` does, rounded; other than whole numbers stay, for `find_fractions` to tell."""
    volume = read_volume(path)
    return Volume(round_labels(volume.array), volume.affine)


class LabelReader(VolumeReader):
    """`VolumeReader` of label maps, rounded.

    Raises:
        InputError: when reading: as `VolumeReader`; also one line where a label map holds other than whole numbers.
    """

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> list[Volume]:
        (volume,) = super().read(data, **kwargs)
        label = round_labels(volume.array)
        wrong = find_fractions(label)
        if wrong:
            raise InputError(f"{ensure_tuple(data)[0]}: {wrong}")
        return [Volume(smallest_integers(label), volume.affine)]


class LoadLabelVolumed(LoadImageVolumed):
    """`LoadImageVolumed` by `LabelReader`: [1, H, W, D], uint8 where that holds all values, else int32."""

    def __call__(self, data: Mapping[Hashable, Any], reader: ImageReader | None = None) -> dict[Hashable, Any]:
        return super().__call__(data, reader or LabelReader())
