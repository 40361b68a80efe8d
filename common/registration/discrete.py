"""Where a far registration starts: all displacements within reach are tried, so that none is missed by its gradient."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from monai.networks.blocks import Warp
from torch import Tensor
from torch.nn import functional as F

BLOCKS = ((6, 4), (4, 4), (3, 3), (2, 2))  # side, voxels, and reach, blocks
COUPLING = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # of cost and smooth field, from loose to tight
NEAREST = 0.01  # cost of a squared block: where all places look alike, none is far
CONSISTENT = 15  # turns in which the fields of both directions become each other's inverse


def search_displacement(fixed: Tensor, moving: Tensor, blocks: Sequence[tuple[int, int]] = BLOCKS) -> Tensor:
    """Return the smooth ddf [B, 3, H, W, D], voxels, that brings moving features to fixed ones, both ways alike.

    The cost of each displacement of each block is the squared difference of features; minimum and smoothing take
    turns, coupled ever more tightly (M. P. Heinrich et al., "Non-parametric discrete registration with convex
    optimisation", WBIR 2014). Smaller blocks go on from what larger ones have found.

    Args:
        fixed, moving: features [B, C, H, W, D].
        blocks: side of a block, voxels, and how many blocks a displacement may reach along each axis.
    """
    warp = Warp(mode="bilinear", padding_mode="border")
    found = fixed.new_zeros(len(fixed), 3, *fixed.shape[2:])
    for side, radius in blocks:
        further = _search(fixed, warp(moving, found), side, radius)
        found = further + warp(found, further)
    return found


def _search(fixed: Tensor, moving: Tensor, side: int, radius: int) -> Tensor:
    """Return the ddf that blocks of one size find."""
    size = fixed.shape[2:]
    # a block that is not whole repeats the edge
    padding = [part for n in reversed(size) for part in (0, -n % side)]
    first, second = (F.avg_pool3d(F.pad(one, padding, mode="replicate"), side) for one in (fixed, moving))
    there = torch.stack([_coupled(f, m, radius) for f, m in zip(first, second, strict=True)])
    back = torch.stack([_coupled(m, f, radius) for f, m in zip(first, second, strict=True)])
    warp = Warp(mode="bilinear", padding_mode="border")
    for _ in range(CONSISTENT):
        there, back = (there - warp(back, there)) / 2, (back - warp(there, back)) / 2
    whole = F.interpolate(there * side, scale_factor=side, mode="trilinear", align_corners=False)
    return whole[:, :, : size[0], : size[1], : size[2]]


def _coupled(fixed: Tensor, moving: Tensor, radius: int) -> Tensor:
    """Return the displacement [3, h, w, d] of each block of a case, in blocks; blocks are [C, h, w, d]."""
    h, w, d = fixed.shape[1:]
    padded = F.pad(moving[None], (radius,) * 6, mode="replicate")[0]
    steps = list(product(range(2 * radius + 1), repeat=3))
    energy = padded.square().sum(0)
    # the squared difference but for the fixed block's own square, which no displacement changes
    cost = torch.stack(
        [
            energy[i : i + h, j : j + w, k : k + d] - 2 * (padded[:, i : i + h, j : j + w, k : k + d] * fixed).sum(0)
            for i, j, k in steps
        ]
    )
    moves = torch.tensor(steps, dtype=torch.float32, device=fixed.device) - radius  # [L, 3], cost [L, h, w, d]
    cost += NEAREST * moves.square().sum(1)[:, None, None, None]

    def best(costs: Tensor) -> Tensor:
        return _smooth(moves[costs.argmin(0)].permute(3, 0, 1, 2))

    found = best(cost)
    for weight in COUPLING:
        apart = (moves[..., None, None, None] - found).square().sum(1)
        found = best(cost + weight * apart)
    return found


def _smooth(field: Tensor) -> Tensor:
    for _ in range(2):
        field = F.avg_pool3d(F.pad(field[None], (1,) * 6, mode="replicate")[0], 3, stride=1)
    return field
