"""Slice labels as a volume beside the image, so that no transform can part bits and slices."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from torch import Tensor

from ..data.presence import (
    foreground_values,
    read_slice_labels,
)
from ..grid.field_of_view import positions, scan_geometry, within_axis


class AddPresenced(MapTransform):
    """Turn `slice_labels` into the volume `presence` [P, H, W, D] of 0 and 1, float32, constant within a slice.

    It stands behind what brings the image to its grid. Whatever augments the image is to be applied to `presence` too,
    so that bits and slices stay together. A slice of the grid has the bits of the nearest slice of the scan, and none
    where it lies beyond the scan's. An item without slice labels gets nothing; `slice_labels` is taken out of the item.

    Args:
        keys: the image [1, H, W, D] on the grid, see `inside_scan`; one that knows no scan is the scan itself.
        labels: values of the labels, or value -> name; 0 is left out.
    """

    def __init__(self, keys: KeysCollection, labels: Iterable[int], allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.labels = dict(labels) if isinstance(labels, Mapping) else foreground_values(labels)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        entry = result.pop("slice_labels", None)
        if entry is None:
            return result
        image = result[self.first_key(result)]
        found = read_slice_labels(entry, ScanSlices(image, 0).scan_size, self.labels, str(result.get("case", "image")))
        result["presence"] = bits_on_grid(torch.from_numpy(found.bits), found.axis, image)
        return result


class ScanSlices:
    """Where the slices of a scan lie on the grid of its image.

    Args:
        image: [C, H, W, D] on the grid, see `inside_scan`; one that knows no scan is the scan itself.
        axis: of the stored scan, which its slices are counted along.

    Attributes:
        scan_size: [3], voxels of the scan as stored.
        step: from one slice of the grid to the next, slices of the scan; below 0 where the grid counts backwards.
        positions: for each axis of the scan, where along it the voxels of the grid lie, see `field_of_view.positions`.
    """

    def __init__(self, image: Tensor, axis: int) -> None:
        size = tuple(int(n) for n in image.shape[1:])
        found = scan_geometry(image)
        to_scan, self.scan_size = (torch.eye(4, dtype=torch.float64), size) if found is None else found
        row = to_scan[axis, :3]
        self.axis, self.step = axis, float(row.norm() * row[row.abs().argmax()].sign())
        self.positions = positions(to_scan, [torch.arange(n, dtype=torch.float64) for n in size])

    @property
    def place(self) -> Tensor:
        """Which slice each voxel of the grid lies on, not rounded; broadcasts to [H, W, D]."""
        return self.positions[self.axis]

    @property
    def inside(self) -> Tensor:
        """Which of the grid's slices the scan has, bool of that shape."""
        return within_axis(self.place, abs(self.step), self.scan_size[self.axis])

    def nearest(self, axis: int) -> Tensor:
        """Return the index of the scan's nearest voxel along one of its axes, int64; broadcasts to [H, W, D]."""
        return self.positions[axis].round().clamp(0, self.scan_size[axis] - 1).long()


def bits_on_grid(bits: Tensor, axis: int, image: Tensor) -> Tensor:
    """Return the bits [P, n] of a scan's slices along a stored axis on the grid of its image: [P, H, W, D] float32.

    The volume is a view of its profile along the slices where the axes of scan and grid match.
    """
    slices = ScanSlices(image, axis)
    return (bits[:, slices.nearest(axis)] & slices.inside).float().expand(-1, *image.shape[1:])


def slice_bits(presence: Tensor, slice_axis: int) -> Tensor:
    """Return the bits [P, n] bool of a presence volume [P, H, W, D] along `slice_axis` (0, 1, 2); also for batches.

    A slice that a rotation has mixed is positive where more than half of it is.

    Returns:
        [..., P, n] for presence [..., P, H, W, D].
    """
    presence = presence.as_subclass(Tensor)
    in_plane = [axis - 3 for axis in range(3) if axis != slice_axis]
    return presence.float().mean(in_plane) > 0.5
