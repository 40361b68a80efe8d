"""Where a scan lies on a grid: what of the grid was scanned, and how much of the scan the grid has room for."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import nibabel
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor

from ..volumes.volume import LARGEST_VOXELS, too_many
from .native import is_outside, matching_axes

SAMPLES = 128  # voxels of the scan along each axis that stand for all
REACH = 0.501  # voxels of the scan beyond the centre of its border voxel
TIE = 1e-3  # voxels: in the middle of two, a sample belongs to either


def inside_scan(image: Tensor) -> Tensor:
    """Return which voxels of the network's grid have their centre within the scan; the others repeat its edge.

    The outer half of a scan's border voxel counts as within it, as for `ToNativeGridd`; where the grid is coarser half
    a voxel of the grid does, so that the nearest voxel of the grid to any of the scan's is inside.

    Args:
        image: [C, H, W, D] on the grid: a MetaTensor with its affine, and the file's `original_affine` and
            `spatial_shape` in its meta, as `LoadImaged` sets them.

    Returns:
        [1, H, W, D] bool; all of them where the image knows no scan.
    """
    found = scan_geometry(image)
    size = tuple(image.shape[1:])
    if found is None:
        return torch.ones((1, *size), dtype=torch.bool, device=image.device)
    to_scan, scan_size = found
    return within(to_scan, size, scan_size)[None].to(image.device)


class AddInsided(MapTransform):
    """Add `inside` [1, H, W, D], 1 where the image was scanned and 0 where the grid goes on beyond; see `inside_scan`.

    Args:
        keys: the image, on the grid, before whatever augments it.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        return {**data, "inside": inside_scan(data[self.first_key(dict(data))]).float()}


def scan_geometry(image: Tensor) -> tuple[Tensor, tuple[int, ...]] | None:
    """Return voxel of the grid to voxel of the scan [4, 4], float64, and the scan's size; None where it isn't known.

    Args:
        image: see `inside_scan`.
    """
    meta = image.meta if isinstance(image, MetaTensor) else {}
    if meta.get("spatial_shape") is None or meta.get("original_affine") is None:
        return None
    affine = torch.as_tensor(meta["original_affine"], dtype=torch.float64, device="cpu")
    to_scan = torch.linalg.inv(affine) @ image.affine.double().cpu()
    return to_scan, tuple(int(n) for n in meta["spatial_shape"])[:3]


def within(to_scan: Tensor, spatial_size: Sequence[int], scan_size: Sequence[int]) -> Tensor:
    """Return which voxels of a grid have their centre within a scan, [*spatial_size] bool.

    Args:
        to_scan: [4, 4], voxel of the grid to voxel of the scan.
    """
    inside = torch.ones(tuple(spatial_size), dtype=torch.bool)
    steps = [torch.arange(n, dtype=torch.float64) for n in spatial_size]
    for position, row, n in zip(positions(to_scan, steps), to_scan[:3], scan_size, strict=True):
        inside &= within_axis(position, float(row[:3].norm()), int(n))
    return inside


def within_axis(position: Tensor, step: float, n: int) -> Tensor:
    """Return which positions along an axis of a scan of n voxels are within it, bool.

    Args:
        position: in voxels of the scan.
        step: from one voxel of the grid to the next, voxels of the scan.
    """
    reach = max(REACH, step / 2 - TIE)
    return (position >= -reach) & (position <= n - 1 + reach)


def positions(to_scan: Tensor, steps: Sequence[Tensor]) -> list[Tensor]:
    """Return where the crossings of steps along a grid's axes lie along each axis of a scan, voxels, float64.

    Args:
        to_scan: [4, 4], voxel of the grid to voxel of the scan.
        steps: coordinates along the grid's axes, float64, [h], [w] and [d].

    Returns:
        for each axis of the scan a tensor that broadcasts to [h, w, d]: of a single line where the axes match.
    """
    to_scan = to_scan.double().cpu()
    order = matching_axes(to_scan, max(int(axis.max()) + 1 for axis in steps))
    found = []
    for own, row in enumerate(to_scan[:3]):
        position = row[3].reshape(1, 1, 1)
        for axis, (along, step) in enumerate(zip(steps, row[:3], strict=True)):
            if order is None or order[axis] == own:
                position = position + (along * step).reshape([-1 if a == axis else 1 for a in range(3)])
        found.append(position)
    return found


def scan_box(image: Tensor) -> tuple[slice, ...]:
    """Return the box of the grid that holds the scan of an image [C, H, W, D], see `inside_scan`, to cut pictures to.

    All of the grid where the scan lies outside of it.
    """
    box = filled_box(inside_scan(image)[0])
    return tuple(slice(0, n) for n in image.shape[1:]) if box is None else tuple(box)


def filled_box(mask: Tensor) -> list[slice] | None:
    """Return the smallest box [slice, slice, slice] around a boolean mask [H, W, D]; None where it is empty."""
    box = []
    for axis in range(3):
        filled = mask.amax(dim=[a for a in range(3) if a != axis])
        where = filled.nonzero()[:, 0]
        if not len(where):
            return None
        box.append(slice(int(where[0]), int(where[-1]) + 1))
    return box


def share_outside(to_grid: Tensor, size: Sequence[int], spatial_size: Sequence[int]) -> float:
    """Return the share of a scan's voxels whose centre lies outside of a grid.

    Args:
        to_grid: [4, 4], voxel of the scan to voxel of the grid.
        size: of the scan, voxels.
        spatial_size: of the grid, voxels.
    """
    steps = [torch.linspace(0, n - 1, min(n, SAMPLES), dtype=torch.float64) for n in size]
    outside = torch.zeros([len(axis) for axis in steps], dtype=torch.bool)
    for position, n in zip(positions(to_grid, steps), spatial_size, strict=True):
        outside |= is_outside(position, int(n))
    return float(outside.double().mean())


def describe_oversize(shape: Sequence[int], affine: np.ndarray, pixdim: Sequence[float]) -> str | None:
    """Return a line where a volume at another spacing would have more voxels than one may have; None where it hasn't.

    Args:
        shape: [H, W, D], voxels.
        affine: [4, 4], voxel to RAS mm.
        pixdim: wanted spacing along the RAS axes, mm.
    """
    order = np.argsort(nibabel.io_orientation(np.asarray(affine))[:, 0])
    extent = (np.asarray(shape) * np.linalg.norm(np.asarray(affine)[:3, :3], axis=0))[order]
    voxels = float(np.prod(extent / np.asarray(pixdim, dtype=float)))
    if voxels <= LARGEST_VOXELS:
        return None
    span, spacing = (" x ".join(f"{value:g}" for value in values) for values in (extent.round(1), pixdim))
    return (
        f"spans {span} mm, at the model's spacing of {spacing} mm {too_many(voxels)}: look at spacing and units in its "
        "header"
    )
