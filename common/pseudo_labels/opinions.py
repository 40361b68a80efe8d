"""Opinions on a case: fusing them, and judging them without truth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..tensors import known_share

OF_ALL, OF_PLACE = 16, 8  # powers of the similarity
LEAST = 1e-3  # similarity that nothing falls below, so that there is something to divide by


def fuse(opinions: Sequence[Tensor]) -> Tensor:
    """Return the mean of probabilities [K, H, W, D] of the same case.

    An opinion whose classes are all 0, as beyond the scan it comes from, has no say there; where none has one all
    classes of the result are 0.
    """
    mean = torch.stack([o.float() for o in opinions]).mean(0)
    share = known_share(mean, 0)
    least = 0.5 / len(opinions)
    return torch.where(share > least, mean / share.clamp_min(least), 0.0)


def agreement_by_class(first: Tensor, second: Tensor, classes: Iterable[int] | None = None) -> dict[int, float]:
    """Return the Dice of two hard label maps, class by class; inputs are [K, H, W, D].

    Args:
        classes: those that have to be there: what neither map has is 0. None: all but background that either has.
    """
    a, b = first.argmax(0), second.argmax(0)
    scores: dict[int, float] = {}
    for k in range(1, first.shape[0]) if classes is None else classes:
        total = int((a == k).sum() + (b == k).sum())
        if total:
            scores[k] = 2 * int(((a == k) & (b == k)).sum()) / total
        elif classes is not None:
            scores[k] = 0.0
    return scores


def agreement(first: Tensor, second: Tensor, classes: Iterable[int] | None = None) -> float:
    """Return the Dice of two hard label maps' foreground, mean over classes; inputs are [K, H, W, D].

    Without truth this is what says best how good a pseudo label is.

    Args:
        classes: see `agreement_by_class`.
    """
    scores = agreement_by_class(first, second, classes)
    return sum(scores.values()) / len(scores) if scores else 0.0


def fuse_by_similarity(opinions: Sequence[Tensor], similarity: Sequence[Tensor]) -> Tensor:
    """Return the mean of probabilities [K, H, W, D] of one case, weighted by how alike it is to what each comes from.

    By the 16th power of the similarity of the whole, and the 8th of that around a voxel: where one is clearly more
    alike it decides, for a case or for a place in it (locally weighted voting: Artaechevarria et al., IEEE TMI 2009).
    Of three atlases it makes better labels than the mean: left atrium .733 for .677, hippocampus .811 for .795, 13
    abdominal organs .508 for .459; the powers were chosen on these training scans, one pair for all three
    (docs/one_shot.md).

    Args:
        similarity: of the image that each opinion comes from, registered to the case, [1, H, W, D] in [0, 1]; NaN where
            that is not known.
    """
    if len(opinions) == 1:
        return opinions[0]
    whole = [float(one.nanmean().nan_to_num(0.0)) for one in similarity]
    most = max(max(whole), LEAST)
    weights = []
    for opinion, one, mean in zip(opinions, similarity, whole, strict=True):
        near = F.avg_pool3d(one.nan_to_num(mean)[None], 3, stride=1, padding=1, count_include_pad=False)[0]
        weight = (max(mean, LEAST) / most) ** OF_ALL * (near.clamp_min(LEAST) / most) ** OF_PLACE
        weights.append(weight * (known_share(opinion, 0) > 0.5))
    total = torch.stack(weights).sum(0).clamp_min(torch.finfo(torch.float32).tiny)
    return fuse([one * (weight * len(opinions) / total) for one, weight in zip(opinions, weights, strict=True)])


def select_by_quality(quality: Mapping[str, float], keep: float, least: int = 1) -> list[str]:
    """Return the share `keep` (0 to 1) of the cases with the highest quality, at least `least`, at least one."""
    ranked = sorted(quality, key=lambda case: (-quality[case], case))
    return ranked[: max(1, least, round(keep * len(ranked)))]
