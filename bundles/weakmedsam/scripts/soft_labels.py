"""Soft labels: what is believed of each voxel, put on one scale, and cut."""

from __future__ import annotations

import torch
from torch import Tensor, nn

TRUST = 0.94  # of a learnt location; what is left is spread over all voxels, so that appearance can overrule it
FLOOR = 0.02
BOX_TRUST = 0.6  # of a box: it says little about the corners of a structure
LOCATION_WEIGHT = 0.5  # of a learnt location: without the prior beside it labels drift from round to round
CERTAIN = 1e-6  # nearer to 0 or 1 a map is not told apart; a trained network is sure of most voxels to 1e-3


def posterior(
    prior: Tensor,
    presence: Tensor,
    place: Tensor | None = None,
    appearance: Tensor | None = None,
    of_this_scan: bool = False,
) -> Tensor:
    """Return what is believed of each voxel, [P, H, W, D] in [0, 1]: the prior itself where it is alone.

    Args:
        prior: [P, H, W, D] in [0, 1], 0 in negative slices.
        presence: bits [P, H, W, D], float.
        place: learnt location [P, H, W, D] in [0, 1].
        appearance: logits [P, H, W, D].
        of_this_scan: the prior has seen the scan, as an activation map has; a location only adds to it.
    """
    if place is None and appearance is None:
        return prior
    if of_this_scan:
        evidence = torch.logit(prior, eps=1e-3)
    else:
        evidence = torch.logit(BOX_TRUST * prior + FLOOR) * (1 if place is None else 1 - LOCATION_WEIGHT)
    if place is not None:
        evidence = evidence + LOCATION_WEIGHT * torch.logit(TRUST * place + FLOOR)
    if appearance is not None:
        evidence = evidence + appearance
    return torch.sigmoid(evidence) * presence


def calibrate(maps: Tensor, thresholds: Tensor) -> Tensor:
    """Shift maps [P, H, W, D] in [0, 1] on the scale of logits so that their thresholds [P] become 0.5."""
    logits = torch.logit(maps.float(), eps=CERTAIN)
    return torch.sigmoid(logits - torch.logit(thresholds.view(-1, 1, 1, 1), eps=CERTAIN))


def cut(maps: Tensor, presence: Tensor, ignore_band: float) -> tuple[Tensor, Tensor]:
    """Return `target` [K, H, W, D], one-hot, and `weight` [1, H, W, D] of calibrated maps [P, H, W, D].

    Args:
        presence: bits [P, H, W, D].
        ignore_band: scores closer than this to 0.5 in positive slices have a weight of 0.
    """
    found = maps > 0.5
    # a voxel of several labels is the smallest one's: the larger one may enclose it, as an organ does its vessels
    size = found.flatten(1).sum(1).view(-1, 1, 1, 1)
    best = torch.where(found, size, size.max() + 1).argmin(0) + 1
    best = torch.where(found.any(0), best, 0)
    target = nn.functional.one_hot(best, len(maps) + 1).movedim(-1, 0).float()
    doubt = ((maps - 0.5).abs() < ignore_band) & (presence > 0.5)
    # a voxel's own label that is surely there settles it, however near another one is to its threshold
    settled = (target[1:].bool() & (maps > 0.5 + ignore_band)).any(0)
    return target, (~doubt.any(0) | settled)[None].float()
