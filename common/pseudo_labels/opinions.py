"""Opinions on a case: fusing them, and judging them without truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..tensors import known_share


def fuse(opinions: Sequence[Tensor]) -> Tensor:
    """Return the mean of probabilities [K, H, W, D] of the same case.

    An opinion whose classes are all 0, as beyond the scan it comes from, has no say there; where none has one all
    classes of the result are 0.
    """
    mean = torch.stack([o.float() for o in opinions]).mean(0)
    share = known_share(mean, 0)
    least = 0.5 / len(opinions)
    return torch.where(share > least, mean / share.clamp_min(least), 0.0)


def agreement(first: Tensor, second: Tensor) -> float:
    """Return the Dice of two hard label maps' foreground, mean over classes that either has; inputs are [K, H, W, D].

    Without truth this is what says best how good a pseudo label is.
    """
    a, b = first.argmax(0), second.argmax(0)
    scores = []
    for k in range(1, first.shape[0]):
        total = int((a == k).sum() + (b == k).sum())
        if total:
            scores.append(2 * int(((a == k) & (b == k)).sum()) / total)
    return sum(scores) / len(scores) if scores else 0.0


def select_by_quality(quality: Mapping[str, float], keep: float) -> list[str]:
    """Return the share `keep` (0 to 1) of the cases with the highest quality, at least one."""
    ranked = sorted(quality, key=lambda case: (-quality[case], case))
    return ranked[: max(1, round(keep * len(ranked)))]
