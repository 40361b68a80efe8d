"""Displacement and velocity fields on the common grid, and images and labels that are warped by them.

Coordinates are voxels of the common grid; a `ddf` [B, 3, H, W, D] says for every voxel of the fixed volume how far
away (in voxels, H, W, D order) the matching point of the moving volume lies. Everything here is float32.
"""

from __future__ import annotations

import torch
from monai.networks.blocks import DVF2DDF, Warp
from monai.networks.utils import meshgrid_ij
from torch import Tensor
from torch.nn import functional as F


def voxel_grid(spatial_size: tuple[int, ...], device: torch.device | str = "cpu") -> Tensor:
    """Return the voxel coordinates of a grid, [1, 3, H, W, D]."""
    axes = [torch.arange(n, dtype=torch.float32, device=device) for n in spatial_size]
    return torch.stack(meshgrid_ij(*axes))[None]


def total_ddf(affine: Tensor, ddf: Tensor | None, spatial_size: tuple[int, ...]) -> Tensor:
    """Return the ddf of "first ddf, then affine" so that the moving volume is interpolated only once.

    Args:
        affine: [B, 3, 4], maps centred voxel coordinates of the fixed volume to those of the moving one.
        ddf: [B, 3, H, W, D] voxels, or None.
    """
    grid = voxel_grid(spatial_size, affine.device)
    points = grid if ddf is None else grid + ddf
    centre = (torch.tensor(spatial_size, dtype=torch.float32, device=affine.device) - 1).view(1, 3, 1, 1, 1) / 2
    b = affine.shape[0]
    centred = (points - centre).expand(b, -1, -1, -1, -1).flatten(2)  # [B, 3, N]
    with torch.autocast(affine.device.type, enabled=False):
        mapped = affine[:, :, :3] @ centred + affine[:, :, 3:]
    return mapped.view(b, 3, *spatial_size) + centre - grid


def warp(image: Tensor, ddf: Tensor, mode: str = "bilinear") -> Tensor:
    """Sample image [B, C, H, W, D] at every voxel plus ddf [B, 3, H, W, D] (voxels); outside, the border value."""
    return Warp(mode=mode, padding_mode="border")(image.float(), ddf.float())


def warp_known(image: Tensor, ddf: Tensor, fixed: Tensor | None, moving: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return an image [B, C, H, W, D] warped by ddf, and where it and the fixed volume were both scanned, detached.

    Args:
        fixed, moving: [B, 1, H, W, D] in [0, 1], what was scanned of both volumes; None: all.

    Returns:
        [B, C, H, W, D], and [B, 1, H, W, D] of 0 and 1; None: all.
    """
    if moving is None:
        return warp(image, ddf), fixed
    both = warp(torch.cat([image, moving.to(image)], dim=1), ddf)
    known = (both[:, -1:].detach() > 0.5).float()
    return both[:, :-1], known if fixed is None else known * fixed


def integrate(velocity: Tensor, spatial_size: tuple[int, ...], num_steps: int = 6) -> Tensor:
    """Return the ddf [B, 3, H, W, D] (voxels) of a stationary velocity field given on the same or a coarser grid.

    The velocity is in voxels of its own grid; scaling and squaring is `monai.networks.blocks.DVF2DDF`.
    """
    ddf = DVF2DDF(num_steps=num_steps, mode="bilinear", padding_mode="border")(velocity.float())
    if tuple(ddf.shape[2:]) == tuple(spatial_size):
        return ddf
    ratio = [(full - 1) / max(coarse - 1, 1) for full, coarse in zip(spatial_size, ddf.shape[2:], strict=True)]
    scale = torch.tensor(ratio, device=ddf.device).view(1, 3, 1, 1, 1)
    return F.interpolate(ddf, size=tuple(spatial_size), mode="trilinear", align_corners=True) * scale


def smoothness(field: Tensor) -> Tensor:
    """Return the mean squared forward difference of a field [B, 3, H, W, D] of each case, [B] (L_smo, mean of axes)."""
    total = 0.0
    for axis in (2, 3, 4):
        total = total + field.diff(dim=axis).square().flatten(1).mean(1)
    return total / 3


def jacobian_determinant(ddf: Tensor) -> Tensor:
    """Return det(I + grad ddf) by forward differences, [B, H-1, W-1, D-1]."""
    columns = []
    for axis in (2, 3, 4):
        step = ddf.diff(dim=axis)
        step = step[:, :, : ddf.shape[2] - 1, : ddf.shape[3] - 1, : ddf.shape[4] - 1]
        columns.append(step)
    jacobian = torch.stack(columns, dim=-1).permute(0, 2, 3, 4, 1, 5)  # [B, h, w, d, component, axis]
    return torch.linalg.det(jacobian + torch.eye(3, device=ddf.device))


def folding_percent(ddf: Tensor) -> Tensor:
    """Return the share of voxels with a non-positive Jacobian determinant, per cent, [B]."""
    return (jacobian_determinant(ddf) <= 0).float().flatten(1).mean(1) * 100


def pooled(known: Tensor | None, factor: int, ceil_mode: bool = False) -> Tensor | None:
    """Return 1 where more than half of a block of `factor` voxels was scanned; None stays None, all was."""
    return None if known is None else (F.avg_pool3d(known.float(), factor, ceil_mode=ceil_mode) > 0.5).float()
