"""Registrations that go on, on voxels half as large, where the plan has a second level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from monai.data import MetaTensor
from torch import Tensor

from ..grid.field_of_view import inside_scan
from ..grid.grid import Grid
from ..grid.preprocessing import ImagePreprocessing, LabelPreprocessing
from ..grid.to_grid import between_grids
from ..registration.deformation import register_velocity
from ..tensors import plain, unless_all
from .atlas import Atlas


def finer_grid(grid: Grid) -> Grid | None:
    """Return a grid of the same extent on voxels half as large along each axis, but no finer than the second level.

    None where there is no second level: a label that is warped on voxels of 10 mm is lost where it is thin, and one
    that is warped on its own by what was found there lies beside its organ (docs/one_shot.md).
    """
    if grid.fine is None:
        return None
    pixdim = [max(coarse / 2, min(coarse, fine)) for coarse, fine in zip(grid.pixdim, grid.fine.pixdim, strict=True)]
    size = [round(n * old / new) for n, old, new in zip(grid.spatial_size, grid.pixdim, pixdim, strict=True)]
    if size == list(grid.spatial_size):
        return None
    pixdim = [round(n * old / new, 4) for n, old, new in zip(grid.spatial_size, grid.pixdim, size, strict=True)]
    return replace(grid, spatial_size=tuple(size), pixdim=tuple(pixdim), strides=None, fine=None)


@dataclass(frozen=True)
class FinerScan:
    """A scan on finer voxels, beside the common grid.

    Args:
        image: [C, H, W, D] on the finer voxels, with its affine and the geometry of its file.
        common: affine [4, 4] of its image on the common grid, voxel to mm.
    """

    image: MetaTensor
    common: Tensor

    @property
    def affine(self) -> Tensor:
        """[4, 4], float64, voxel to mm."""
        return self.image.affine.double().cpu()

    @property
    def to_common(self) -> Tensor:
        """[4, 4], float64, voxel of the finer image to voxel of the common grid."""
        return torch.linalg.inv(self.common.double().cpu()) @ self.affine

    def view(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the image [1, C, H, W, D], and 1 where it was scanned, 0 where the grid goes on beyond."""
        return plain(self.image).float()[None].to(device), inside_scan(self.image)[None].float().to(device)


class FinerScans:
    """Scans and labels on finer voxels, read when they are wanted: memory doesn't grow with the cases.

    Args:
        grid: the common one.
        percentiles: see `ImagePreprocessing`.
        steps: of gradients on descriptors, then as many on correlation; 0: registrations end on the common grid.
    """

    def __init__(self, grid: Grid, percentiles: Sequence[float] = (1, 99), steps: int = 20) -> None:
        self.steps = steps
        self.grid = finer_grid(grid) if steps else None
        if self.grid is not None:
            self._image, self._label = ImagePreprocessing(self.grid, percentiles), LabelPreprocessing(self.grid)

    def scan(self, common: MetaTensor) -> FinerScan:
        """Return a scan by its image on the common grid, which knows its file."""
        return FinerScan(self._image({"image": str(common.meta["filename_or_obj"])})["image"], common.affine)

    def atlas(self, atlas: Atlas, common: MetaTensor, label: str) -> FinerAtlas | None:
        """Return an atlas by its image on the common grid and its label's file; None where there is no finer grid."""
        if self.grid is None:
            return None
        scan, device = self.scan(common), atlas.image.device
        classes = plain(self._label({"label": label})["label"]).float()[None].to(device)
        image, steps = scan.view(device)[0], self.steps
        finer = replace(atlas, image=image, label=classes, registration=None, steps=steps, coarse_steps=steps)
        return FinerAtlas(finer, scan, atlas.size)


@dataclass(frozen=True)
class FinerAtlas:
    """An atlas on finer voxels, to which a registration on the common grid is handed.

    Args:
        atlas: on the finer voxels.
        scan: the same.
        size: of the common grid, voxels.
    """

    atlas: Atlas
    scan: FinerScan
    size: tuple[int, ...]

    def go_on(self, fixed: FinerScan, affine: Tensor, velocity: Tensor) -> dict[str, Tensor]:
        """Return `affine` [3, 4] and `velocity` [3, h, w, d] on the finer grid, from those on the common one.

        From there on descriptors and correlation are followed on the finer voxels; no search is made again.

        Args:
            affine: [1, 3, 4]. velocity: [3, h, w, d].
        """
        device, own = self.atlas.image.device, self.atlas
        finer = finer_affine(affine[0], self.size, own.size, fixed.to_common, self.scan.to_common).to(device)[None]
        start = finer_velocity(velocity, self.size, own.size, fixed).to(device)
        image, inside = fixed.view(device)
        found = register_velocity(
            own.grey(image), own.grey(own.image), finer, own.steps, coarse_steps=own.coarse_steps,
            smooth_weight=own.smooth_weight, velocity=start[None], fixed_known=unless_all(inside),
            moving_known=own.known,
        )  # fmt: skip
        return {"affine": finer[0], "velocity": found[0]}


def finer_affine(affine: Tensor, size: Sequence[int], finer: Sequence[int], fixed: Tensor, moving: Tensor) -> Tensor:
    """Return an affine [3, 4] of centred voxels of the common grid as one of centred finer voxels.

    Args:
        size, finer: of both grids, voxels.
        fixed, moving: [4, 4], voxel of each finer image to voxel of the same scan's image on the common grid.
    """
    whole = torch.eye(4, dtype=torch.float64)
    whole[:3] = affine.double().cpu()
    voxels = centred(size) @ whole @ centred(size, -1)
    return (centred(finer, -1) @ torch.linalg.inv(moving) @ voxels @ fixed @ centred(finer))[:3].float()


def centred(size: Sequence[int], sign: int = 1) -> Tensor:
    """Return the shift [4, 4], float64, from centred voxels of a grid to voxels; the other way by a sign of -1."""
    shift = torch.eye(4, dtype=torch.float64)
    shift[:3, 3] = sign * (torch.tensor(size, dtype=torch.float64) - 1) / 2
    return shift


def finer_velocity(velocity: Tensor, size: Sequence[int], finer: Sequence[int], fixed: FinerScan) -> Tensor:
    """Return a velocity [3, h, w, d] on half of the common grid as one on half of the finer grid, in its voxels.

    Args:
        size, finer: of both whole grids, voxels.
        fixed: the scan whose velocity it is.
    """
    half = [(n + 1) // 2 for n in finer]
    coarse, fine = halved(fixed.common, size, velocity.shape[1:]), halved(fixed.affine, finer, half)
    step = (torch.linalg.inv(coarse) @ fine).diagonal()[:3].float().view(3, 1, 1, 1)
    return between_grids(velocity.cpu(), coarse, fine, half) / step


def halved(affine: Tensor, size: Sequence[int], half: Sequence[int]) -> Tensor:
    """Return voxel to mm, [4, 4], of a smaller grid whose corner voxels lie on those of a grid of this affine."""
    ratio = [(n - 1) / max(m - 1, 1) for n, m in zip(size, half, strict=True)]
    return affine.double().cpu() @ torch.diag(torch.tensor([*ratio, 1.0], dtype=torch.float64))
