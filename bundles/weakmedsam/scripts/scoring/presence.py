"""How well the slices of a structure are found, and what their number alone says about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata
from torch import Tensor

from ..common.data.presence import derive_slice_labels, ras_axes
from ..common.volumes.read import read_geometry

DEPTHS = (np.arange(200) + 0.5) / 200  # where the mean bits of the training cases are kept


def presence_auc(scores: np.ndarray, bits: np.ndarray) -> float:
    """Return the area under the ROC curve of slice scores [n] for bits [n]; NaN where all bits are the same.

    The chance that a positive slice has a higher score than a negative one; equal scores count half.
    """
    bits = np.asarray(bits, dtype=bool)
    positive, negative = int(bits.sum()), int((~bits).sum())
    if not positive or not negative:
        return float("nan")
    ranks = rankdata(np.asarray(scores, dtype=float))
    return float((ranks[bits].sum() - positive * (positive + 1) / 2) / (positive * negative))


class NativeSlices:
    """The slices of a scan as it is stored, and where they lie on the common grid.

    Args:
        shape: [3], voxels as stored.
        affine: [4, 4] of the stored voxels, to RAS mm.
        slice_axis: 0, 1 or 2 of the RAS grid.

    Attributes:
        axis: the array axis that they are counted along.
        depth: [n] in (0, 1), each slice's place in the scan from left, posterior or inferior on.
    """

    def __init__(self, shape: Sequence[int], affine: np.ndarray, slice_axis: int) -> None:
        self.shape, self.affine, self.slice_axis = tuple(int(n) for n in shape), np.asarray(affine), slice_axis
        self.axis = ras_axes(self.affine).index(slice_axis)
        n = self.shape[self.axis]
        depth = (np.arange(n) + 0.5) / n
        self.depth = depth if self.affine[slice_axis, self.axis] > 0 else depth[::-1]

    def on_grid(self, grid_affine: np.ndarray) -> np.ndarray:
        """Return the coordinate [n] of each slice's centre along the slice axis of a grid, in its voxels."""
        voxels = np.tile((np.asarray(self.shape) - 1) / 2, (self.shape[self.axis], 1))
        voxels[:, self.axis] = np.arange(self.shape[self.axis])
        to_grid = np.linalg.inv(np.asarray(grid_affine, dtype=float)) @ self.affine
        return voxels @ to_grid[self.slice_axis, :3] + to_grid[self.slice_axis, 3]

    def bits(self, label: Any, values: Sequence[int]) -> np.ndarray:
        """Return the true bits [P, n] of a mask [H, W, D] on the stored grid."""
        return derive_slice_labels(np.asarray(label), self.axis, values).bits

    def scores(self, probabilities: Tensor, grid_affine: np.ndarray) -> np.ndarray:
        """Return for each slice the largest probability of each label [P, n], from [K, H, W, D] on a grid."""
        planes = probabilities[1:].float().movedim(self.slice_axis + 1, 1).flatten(2).amax(2)  # [P, slices of the grid]
        return self._spread(planes.cpu().numpy(), grid_affine)

    def _spread(self, planes: np.ndarray, grid_affine: np.ndarray) -> np.ndarray:
        place = self.on_grid(grid_affine)
        return np.stack([np.interp(place, np.arange(planes.shape[1]), row) for row in planes])


class SliceIndex:
    """The control that never looks at an image: how often, at this depth, the structure was present in training.

    Args:
        cohort: has `cases`, their `slice_labels` and the `slice_axis` (`WeakCohort`).
    """

    def __init__(self, cohort: Any) -> None:
        self.cohort, self.slice_axis = cohort, cohort.slice_axis
        self._mean: np.ndarray | None = None

    @property
    def mean(self) -> np.ndarray:
        """Mean bit of the training cases at the depths `DEPTHS`, [P, 200]."""
        if self._mean is None:
            rows = []
            for case in self.cohort.cases:
                depth = NativeSlices(*read_geometry(case["image"]), self.slice_axis).depth
                order = np.argsort(depth)
                bits = self.cohort.slice_labels[case["case"]].bits[:, order].astype(float)
                rows.append([np.interp(DEPTHS, depth[order], row) for row in bits])
            self._mean = np.mean(rows, axis=0)
        return self._mean

    def scores(self, slices: NativeSlices) -> np.ndarray:
        """Return the score [P, n] of every slice of a scan."""
        return np.stack([np.interp(slices.depth, DEPTHS, row) for row in self.mean])
