"""An affine that goes on from one found by gradients: fitted to what a search over displacements says."""

from __future__ import annotations

import torch
from torch import Tensor

from .discrete import search_displacement
from .mind import mind
from .registration import total_ddf, voxel_grid, warp

BLOCKS = ((6, 4), (4, 4))  # of the search; smaller ones see what no affine follows


def refit_affine(
    fixed: Tensor, moving: Tensor, affine: Tensor, rounds: int = 2, fixed_known: Tensor | None = None
) -> Tensor:
    """Return an affine [B, 3, 4] that follows the displacements which are left after `affine`, found by a search.

    A gradient stops at the nearest alignment that looks good, most of all in size; blocks that are each searched for by
    themselves say together that an organ is larger. (An affine from matched blocks: S. Ourselin et al.,
    "Reconstructing a 3D structure from serial histological sections", Image and Vision Computing 2001.)

    Args:
        fixed, moving: [B, 1, H, W, D] in [0, 1].
        affine: [B, 3, 4], maps centred voxel coordinates of the fixed volume to those of the moving one.
        rounds: of search and fit.
        fixed_known: [B, 1, H, W, D], 0 where the fixed volume was not scanned, which has no say; None: all was.
    """
    size = tuple(fixed.shape[2:])
    features = mind(fixed.float())
    for _ in range(rounds):
        aligned = warp(moving, total_ddf(affine, None, size))
        further = fit_affine(search_displacement(features, mind(aligned), BLOCKS), fixed_known)
        linear, shift = affine[..., :3], affine[..., 3:]
        affine = torch.cat([linear @ further[..., :3], linear @ further[..., 3:] + shift], dim=-1)
    return affine


def fit_affine(ddf: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the affine [B, 3, 4] of centred voxel coordinates that is nearest to a ddf, in least squares.

    Args:
        ddf: [B, 3, H, W, D], voxels.
        weight: of each voxel, [B, 1, H, W, D]; None: all alike.
    """
    size = ddf.shape[2:]
    centre = (torch.tensor(size, dtype=torch.float32, device=ddf.device) - 1).view(1, 3, 1, 1, 1) / 2
    points = (voxel_grid(tuple(size), ddf.device) - centre).expand_as(ddf)
    source = torch.cat([points, torch.ones_like(ddf[:, :1])], dim=1).flatten(2).mT.double()  # [B, N, 4]
    weighted = source if weight is None else source * weight.flatten(2).mT
    one = torch.eye(4, dtype=source.dtype, device=ddf.device)  # a voxel's worth: an axis of one voxel says nothing
    further = torch.linalg.solve(weighted.mT @ source + one, weighted.mT @ ddf.flatten(2).mT.double())
    return (one[:3] + further.mT).to(ddf.dtype)
