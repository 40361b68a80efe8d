"""Intensities in [0, 1], measured inside what was scanned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import percentile
from torch import Tensor

from ..errors import InputError
from ..imaging.flood import opened
from ..imaging.scanned import find_padding
from .grid import Grid, Range
from .to_grid import ToGridd, WayToGrid

LARGE = 32_000_000  # voxels of which a copy in float32 is not made to sort it
SLAB = 4_000_000  # voxels
WHOLE_RANGE = 1 << 17  # values of integers that are counted one by one


class ImageToGridd(ToGridd):
    """Bring an image [C, H, W, D], a RAS MetaTensor of any real dtype, to a grid, with intensities in [0, 1].

    Each channel is scaled by itself, slab by slab on the way, so that no copy of the scan in float32 exists: by the
    grid's range where it has one, else as MONAI's `ScaleIntensityRangePercentilesd`, clipped, with percentiles of the
    voxels that were scanned: however much padding or empty margin a volume has, its tissue gets the same intensities.
    What was not scanned (`find_padding`) becomes 0, as air is. Without a range, a volume without any gets what MONAI's
    transform gives; so does one whose percentiles inside are equal, as in a phantom of two values.

    Args:
        keys: images.
        grid: see `ToGridd`.
        percentiles: that become 0 and 1 in a channel for which the grid has no range.

    Raises:
        InputError: as `ToGridd`; an image with another number of channels than the grid.
    """

    def __init__(
        self,
        keys: KeysCollection,
        grid: Grid,
        percentiles: Sequence[float] = (1, 99),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, grid, allow_missing_keys)
        self.percentiles = percentiles

    def bring(self, way: WayToGrid, values: Tensor) -> Tensor:
        """Return the values [C, H, W, D] of a scan on the grid."""
        if len(values) != self.grid.channels:
            name = way.meta.get("filename_or_obj", "the image")
            raise InputError(f"{name}: has {len(values)} channels; wanted {self.grid.channels}, as the model has")
        channels = zip(values.split(1), self.grid.intensity_range, strict=True)
        scaled = [way.resample(one, measure_intensity(one, self.percentiles, pair)) for one, pair in channels]
        return scaled[0] if len(scaled) == 1 else torch.cat(scaled)


class ImageToFinestd(ImageToGridd):
    """Bring a whole image [C, H, W, D], a RAS MetaTensor, to the spacing of a grid's finest level; nothing is cut.

    Along an axis on which the scan is shorter than the window of an only level it is padded to that by its edge, as in
    `ImageToGridd`; on a longer one it is padded to whole blocks of `BLOCK` voxels or what the window is a multiple of.
    """

    def find_way(self, image: MetaTensor) -> WayToGrid:
        """Return how this scan comes to the finest level."""
        return WayToGrid(image, self.grid.finest.pixdim, None if self.grid.fine else self.grid.spatial_size, whole=True)


@dataclass(frozen=True)
class Intensity:
    """How the values of one scan become intensities.

    Args:
        low, high: values that become 0 and 1.
        black: [1, H, W, D] bool, voxels that become 0; None: none.
    """

    low: float
    high: float
    black: Tensor | None = None

    def __call__(self, values: Tensor, index: tuple[slice, ...]) -> Tensor:
        """Return the intensities of a part of the scan, float32 values, which are written over."""
        values = values.sub_(self.low) if self.low == self.high else values.sub_(self.low).div_(self.high - self.low)
        values.clamp_(0.0, 1.0)
        return values if self.black is None else values.masked_fill_(self.black[index], 0.0)


def measure_intensity(values: Tensor, percentiles: Sequence[float], intensity_range: Range | None = None) -> Intensity:
    """Return how the values [1, H, W, D] of a scan become intensities; see `ImageToGridd`."""
    array = values[0].cpu().numpy()
    padding = find_padding(array)
    if intensity_range is None:
        low, high = scanned_percentiles(array, padding, percentiles)
        if padding is not None and low == high:
            return Intensity(*scanned_percentiles(array, None, percentiles))
    else:
        low, high = intensity_range
    if padding is None or max(part.max() for part in _parts(array, padding)) <= low:
        return Intensity(low, high)  # it becomes 0 by itself
    # tissue of the padding's very value that touches it stays: it is no solid block
    highest = max(part.max() for part in _parts(array, ~padding))
    padding &= opened(padding) | (array > highest)
    return Intensity(low, high, torch.from_numpy(padding)[None].to(values.device))


def scanned_percentiles(
    array: np.ndarray, padding: np.ndarray | None, percentiles: Sequence[float]
) -> tuple[float, float]:
    """Return two percentiles of the voxels [H, W, D] that are no padding, interpolated linearly.

    Large volumes of integers are counted value by value, slab by slab; others are sorted.
    """
    if array.size > LARGE and array.dtype.kind in "iu":
        least, most = int(array.min()), int(array.max())
        if most - least < WHOLE_RANGE:
            counts = np.zeros(most - least + 1, np.int64)
            for part in _parts(array, None if padding is None else ~padding):
                counts += np.bincount(part.astype(np.int64) - least, minlength=len(counts))
            low, high = (least + value for value in _counted_percentiles(counts, percentiles))
            return low, high
    inside = torch.from_numpy(array if padding is None else array[~padding]).float()
    low, high = (float(percentile(inside, q)) for q in percentiles)
    return low, high


def _counted_percentiles(counts: np.ndarray, percentiles: Sequence[float]) -> list[float]:
    """Return percentiles of the values 0, 1, ... that occur so many times."""
    ends = np.cumsum(counts)
    ranks = np.asarray(percentiles) / 100 * (ends[-1] - 1)
    below, above = (np.searchsorted(ends, find(ranks), side="right") for find in (np.floor, np.ceil))
    return (below + (ranks - np.floor(ranks)) * (above - below)).tolist()


def _parts(array: np.ndarray, mask: np.ndarray | None) -> Iterator[np.ndarray]:
    """Yield the values of a volume [H, W, D], of a mask if there is one, in flat parts of some size above 0."""
    lines = sorted(range(3), key=lambda axis: -array.strides[axis])  # as they lie in memory
    array = array.transpose(lines)
    step = max(SLAB // max(array[0].size, 1), 1)
    for start in range(0, len(array), step):
        part = array[start : start + step]
        part = part.reshape(-1) if mask is None else part[mask.transpose(lines)[start : start + step]]
        if part.size:
            yield part
