"""Mixes of two volumes: what the specialists are surest of in one is pasted into the other."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

PARTS = 4  # blocks along an axis, as published for slices
SHARE = 5 / 16  # of the blocks, as published: 5 of the 16 of a slice


def surest_blocks(entropy: Tensor, inside: Tensor) -> Tensor:
    """Return the blocks of least mean entropy, bool [B, 1, H, W, D]: 5 of 16, of those that were scanned.

    Args:
        entropy: [B, 1, H, W, D]; inside: bool, where the image was scanned.
    """
    size = [min(PARTS, n) for n in entropy.shape[2:]]
    inside = inside.to(entropy)
    scanned = F.adaptive_avg_pool3d(inside, size)
    mean = F.adaptive_avg_pool3d(entropy * inside, size) / scanned.clamp_min(1e-6)
    mean = mean.masked_fill(scanned == 0, torch.inf).flatten(1)  # [B, blocks]
    chosen = torch.zeros_like(mean, dtype=torch.bool)
    order = mean.argsort(dim=1, stable=True)[:, : max(round(SHARE * mean.shape[1]), 1)]
    chosen.scatter_(1, order, True)
    chosen &= mean.isfinite()
    return F.interpolate(chosen.view(-1, 1, *size).to(entropy), entropy.shape[2:], mode="nearest") > 0


def pasted(whole: Tensor, other: Tensor, blocks: Tensor) -> Tensor:
    """Return volumes [B, C, H, W, D] with the blocks [B, 1, H, W, D] of other ones in the same place."""
    return torch.where(blocks, other.to(whole.dtype), whole)
