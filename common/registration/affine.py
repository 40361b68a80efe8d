"""The affine of one volume to another: by gradients, then fitted to what a search over displacements says."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .discrete import search_displacement
from .fields import pooled, total_ddf, voxel_grid, warp, warp_known
from .mind import mind
from .similarity import LocalNCCLoss, global_ncc

BLOCKS = ((6, 4), (4, 4))  # of the search; smaller ones see what no affine follows


@torch.enable_grad()  # also inside an evaluation
def register_affine(
    fixed: Tensor,
    moving: Tensor,
    steps: int = 60,
    learning_rate: float = 0.02,
    kernel_size: int = 7,
    fixed_known: Tensor | None = None,
    moving_known: Tensor | None = None,
) -> Tensor:
    """Return the affine [B, 3, 4] that brings moving to fixed: global plus local correlation, Adam, two coarse levels.

    Twelve numbers don't need the full grid: a quarter and a half of it reach the same Dice at an eighth of the cost.

    Args:
        fixed, moving: [B, 1, H, W, D] in [0, 1], same grid.
        steps: per level (a quarter of the resolution, then half).
        fixed_known, moving_known: [B, 1, H, W, D], 0 where a volume was not scanned, which has no say; None: all was.
    """
    b, size = fixed.shape[0], torch.tensor(fixed.shape[2:], dtype=torch.float32, device=fixed.device)
    identity = torch.eye(3, 4, device=fixed.device).expand(b, 3, 4)
    delta = torch.zeros(b, 3, 4, device=fixed.device, requires_grad=True)
    local = LocalNCCLoss(kernel_size)
    for factor in (4, 2):
        f, m = (F.avg_pool3d(x.float(), factor) for x in (fixed, moving))
        f_known, m_known = (pooled(known, factor) for known in (fixed_known, moving_known))
        level = tuple(f.shape[2:])
        # a unit of `delta` moves the border of the volume about as far in the linear part as in the translation
        reach = torch.cat([torch.ones(3, 3, device=f.device), size[:, None] / (2 * factor)], dim=1)
        optimizer = torch.optim.Adam([delta], lr=learning_rate / (1 if factor > 2 else 2))
        for _ in range(steps):
            warped, known = warp_known(m, total_ddf(identity + delta * reach, None, level), f_known, m_known)
            loss = (-global_ncc(warped, f, known) + 0.5 * local.per_case(warped, f, known)).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    reach = torch.cat([torch.ones(3, 3, device=fixed.device), size[:, None] / 2], dim=1)
    return (identity + delta * reach).detach()


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
