"""How much each of two teachers counts in a pseudo label, label by label: by how well it repeats the masks."""

from __future__ import annotations

import torch
from torch import Tensor


def count_overlaps(found: Tensor, drawn: Tensor, classes: int) -> Tensor:
    """Return of each of P classes the voxels that answer and mask share, and those that both have, added: [P, 2].

    Args:
        found: class indices [H, W, D].
        drawn: class indices of the masks, -1 where there is none.
    """
    found, drawn = found[drawn >= 0], drawn[drawn >= 0]
    rows = []
    for label in range(1, classes + 1):
        own, true = found == label, drawn == label
        rows.append([float((own & true).sum()), float(own.sum() + true.sum())])
    return torch.tensor(rows)


def label_shares(share: float, first: Tensor, second: Tensor) -> Tensor:
    """Return the share that the second teacher has in each of K classes, background first.

    By the Dice of both with all masks together, times the share that either has without them: a label that one of them
    has not learnt is left to the other, one that both know alike stays shared as it was. Both have learnt from these
    masks, so that only a large difference means much, and only such a one moves a share by much.

    Args:
        share: of the second one, 0 to 1, of the background too.
        first, second: [P, 2] of `count_overlaps`, summed over cases.
    """
    weights = [
        part * 2 * counts[:, 0] / counts[:, 1].clamp_min(1) for part, counts in ((1 - share, first), (share, second))
    ]
    both = weights[0] + weights[1]
    known = torch.where(both > 0, weights[1] / both.clamp_min(torch.finfo(both.dtype).tiny), share)
    return torch.cat([known.new_tensor([share]), known])


def fuse_by_shares(first: Tensor, second: Tensor, shares: Tensor) -> Tensor:
    """Write the weighted mean of two teachers' probabilities [K, H, W, D] over the first; they sum to 1 again.

    Args:
        shares: [K], of the second teacher; see `label_shares`.
    """
    for own, other, share in zip(first, second, shares.tolist(), strict=True):
        own.lerp_(other, share)
    return first.div_(first.sum(0).clamp_min(torch.finfo(first.dtype).tiny))
