"""Which voxels an estimate is made from: drawn at large, one from each group, or in mirrored pairs (ARCO)."""

from __future__ import annotations

import torch
from torch import Tensor

UNIFORM, STRATIFIED, ANTITHETIC = "uniform", "stratified", "antithetic"
SAMPLINGS = (UNIFORM, STRATIFIED, ANTITHETIC)
BLOCK = 4  # voxels a side: what lies in one is much alike


def draw(size: int, count: int, sampling: str) -> Tensor:
    """Return `count` of the places 0 to size - 1, int64, each of which is as likely to be drawn as any other.

    "uniform" draws them at large. "stratified" cuts the places into as many groups of neighbours as are wanted, equally
    long, and draws one from each; "antithetic" half as many groups, draws one from each, and takes its mirror image in
    the group, too. The mean over such a draw is right on average in all three, and varies least in the second where
    neighbours are alike, and in the third where values rise or fall along a group.

    Args:
        size: how many places there are, in an order in which neighbours are alike, see `by_blocks`.
        count: wanted; even for "antithetic", which rounds up to a pair.
    """
    if sampling == UNIFORM:
        return torch.randint(size, (count,))
    groups = count if sampling == STRATIFIED else -(-count // 2)
    # in the continuous interval, so that groups are equally long whatever the number of places
    within = torch.rand(groups)
    if sampling == ANTITHETIC:
        within = torch.stack([within, 1 - within], dim=1)
    else:
        within = within[:, None]
    places = (torch.arange(groups)[:, None] + within) * (size / groups)
    return places.floor().long().clamp(0, size - 1).flatten()[:count]


def by_blocks(places: Tensor, size: torch.Size | tuple[int, ...]) -> Tensor:
    """Return flat indices of voxels of a volume of a size, ordered block by block and slice of blocks by slice."""
    height, width, depth = size
    x, y, z = places // (width * depth), places // depth % width, places % depth
    rows, columns = -(-height // BLOCK), -(-width // BLOCK)
    block = (z // BLOCK * rows + x // BLOCK) * columns + y // BLOCK
    return places[torch.argsort(block, stable=True)]
