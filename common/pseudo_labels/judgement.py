"""What can be said of a pseudo label without truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor


def judge(
    found: Tensor, prior: Tensor, values: Sequence[int], pixdim: Sequence[float], slice_axis: int
) -> dict[str, Any]:
    """Judge a pseudo label, each label by itself.

    Args:
        found: bool [P, H, W, D].
        prior: bool [P, H, W, D], the prior cut at its threshold.
        values: of the P labels.
        pixdim: of the grid, mm.

    Returns:
        {"volume_ml", "agreement" (Dice with the prior), "z_consistency" (mean Dice of neighbouring slices, weighted by
        their size)}, each {label value as text: number}.
    """
    voxel_ml = math.prod(pixdim) / 1000
    slices = found.movedim(slice_axis + 1, 1).flatten(2)  # [P, n, voxels of a slice]
    numbers = {
        "volume_ml": [float(one.sum()) * voxel_ml for one in found],
        "agreement": [overlap(*pair) for pair in zip(found, prior, strict=True)],
        "z_consistency": [overlap(one[:-1], one[1:]) for one in slices],
    }
    names = [str(value) for value in values]
    return {name: dict(zip(names, row, strict=True)) for name, row in numbers.items()}


def overlap(first: Tensor, second: Tensor) -> float:
    """Return the Dice of two masks of one shape; 1 where both are empty."""
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else 1.0
