"""How much of a scan a grid has room for, and how much room a scan takes on its way there."""

from __future__ import annotations

from collections.abc import Sequence

import nibabel
import numpy as np
import torch
from torch import Tensor

from ..volumes.volume import LARGEST_VOXELS, too_many
from .native import is_outside

SAMPLES = 128  # voxels of the scan along each axis that stand for all


def share_outside(to_grid: Tensor, size: Sequence[int], spatial_size: Sequence[int]) -> float:
    """Return the share of a scan's voxels whose centre lies outside of a grid.

    Args:
        to_grid: [4, 4], voxel of the scan to voxel of the grid.
        size: of the scan, voxels.
        spatial_size: of the grid, voxels.
    """
    steps = [torch.linspace(0, n - 1, min(n, SAMPLES), dtype=torch.float64) for n in size]
    outside = torch.zeros([len(axis) for axis in steps], dtype=torch.bool)
    for row, n in zip(to_grid.double().cpu()[:3], spatial_size, strict=True):
        along = [axis * step for axis, step in zip(steps, row[:3], strict=True)]
        outside |= is_outside(along[0][:, None, None] + along[1][:, None] + (along[2] + row[3]), int(n))
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
