"""Random changes of shape in the world's millimetres: no voxel is taken for a cube."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import AffineGrid, MapTransform, RandomizableTransform, Resample
from monai.transforms.utils import create_rotate, create_scale, create_translate
from monai.utils import ensure_tuple_rep
from torch import Tensor
from torch.nn import functional as F

THICK = 3.0  # spacings of the finest axis; nnU-Net's threshold, above which it augments in plane alone ("dummy 2D")
FOLD = 0.25  # largest displacement of a control point, in distances between two of them: half of it would fold


class RandWorldTransformd(RandomizableTransform, MapTransform):
    """Turn, scale, shift and bend volumes [C, H, W, D] of one grid alike, as a body moves: in mm.

    The change is one matrix pixdim^-1 R S pixdim around the centre of the volume, so that a turn shears nothing on
    voxels that are no cubes. Along an axis whose spacing is more than 3 times the finest nothing is known between two
    slices: there it is shifted, by one slice at most, and neither turned into, scaled nor bent. What comes from outside
    is the edge, repeated.

    Args:
        keys: volumes, all of the same size.
        pixdim: spacing of the grid, mm.
        rotate: largest turn around each axis, radians.
        scale: largest relative change of size, alike along the axes.
        stretch: largest further one, of each axis alone.
        translate: largest shift along an axis, mm; None: three of the finest voxels.
        bend: largest displacement of the control points of a smooth field, mm; 0 for none.
        bend_spacing: mm between two of them; `bend` counts up to a quarter of it, where nothing can fold.
        prob: of the whole change.
        mode: "bilinear" or "nearest", one for all keys or one for each.
    """

    def __init__(
        self,
        keys: KeysCollection,
        pixdim: Sequence[float],
        rotate: float = 0.2,
        scale: float = 0.12,
        stretch: float = 0.0,
        translate: float | None = None,
        bend: float = 0.0,
        bend_spacing: float = 40.0,
        prob: float = 0.9,
        mode: str | Sequence[str] = "bilinear",
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.pixdim = np.asarray(pixdim, dtype=float)
        if self.pixdim.shape != (3,) or self.pixdim.min() <= 0:
            raise ValueError(f"pixdim is {pixdim}; wanted three spacings above 0, mm")
        finest = float(self.pixdim.min())
        self.thick = self.pixdim > THICK * finest
        self.rotate, self.scale, self.stretch = rotate, scale, stretch
        wanted = 3 * finest if translate is None else translate
        self.translate = np.where(self.thick, np.minimum(wanted, self.pixdim), wanted)
        self.bend, self.bend_spacing = min(bend, FOLD * bend_spacing), bend_spacing
        self.mode = ensure_tuple_rep(mode, len(self.keys))
        self.resample = Resample(padding_mode="border")
        self._matrix, self._field = np.eye(4), np.zeros((3, 1, 1, 1))

    def randomize(self, size: Sequence[int]) -> None:
        """Draw a change of a volume of `size` voxels."""
        super().randomize(None)
        angles = self.R.uniform(-self.rotate, self.rotate, 3)
        factor = np.exp(np.log1p(self.scale) * self.R.uniform(-1, 1))
        factors = factor * np.exp(np.log1p(self.stretch) * self.R.uniform(-1, 1, 3))
        shift = self.R.uniform(-1, 1, 3) * self.translate
        points = [max(int(np.ceil(n * p / self.bend_spacing)), 1) + 1 for n, p in zip(size, self.pixdim, strict=True)]
        self._field = self.R.uniform(-self.bend, self.bend, (3, *points)) if self.bend else np.zeros((3, 1, 1, 1))
        self._field[self.thick] = 0
        factors = np.where(self.thick, 1.0, factors)
        self._matrix = world_matrix(self.pixdim, self.thick, angles, factors, shift)

    def points(self, size: Sequence[int]) -> Tensor:
        """Return where each voxel of the result comes from: [4, H, W, D], voxels from the centre of the volume."""
        grid = AffineGrid(affine=torch.from_numpy(self._matrix), dtype=torch.float32)(spatial_size=tuple(size))[0]
        grid = grid.as_tensor() if isinstance(grid, MetaTensor) else grid
        if self.bend:
            field = torch.from_numpy(self._field / self.pixdim[:, None, None, None]).float()
            field = F.interpolate(field[None], tuple(size), mode="trilinear", align_corners=True)[0]
            grid = torch.cat([grid[:3] + field.to(grid.device), grid[3:]])
        return grid

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        keys = [key for key in self.key_iterator(result)]
        if not keys:
            return result
        size = result[keys[0]].shape[1:]
        self.randomize(size)
        if not self._do_transform:
            return result
        points, modes = self.points(size), dict(zip(self.keys, self.mode, strict=True))
        for key in keys:
            result[key] = self.resample(result[key], grid=points, mode=modes[key])
        return result


def world_matrix(
    pixdim: np.ndarray, thick: np.ndarray, angles: np.ndarray, factors: np.ndarray, shift: np.ndarray
) -> np.ndarray:
    """Return the matrix [4, 4] of a turn, scale and shift of the world, in voxels from a volume's centre.

    Args:
        pixdim: spacing, mm, [3].
        thick: axes along which nothing is known between two slices, bool [3]: nothing turns into them.
        angles: around each axis, radians.
        factors: of size along each axis.
        shift: mm.
    """
    # a turn around an axis moves along the other two
    blocked = [bool(np.delete(thick, axis).any()) for axis in range(3)]
    turn = create_rotate(3, np.where(blocked, 0.0, angles))
    in_mm = create_translate(3, shift) @ turn @ create_scale(3, factors)
    to_mm = np.diag([*pixdim, 1.0])
    matrix: np.ndarray = np.linalg.inv(to_mm) @ in_mm @ to_mm
    return matrix
