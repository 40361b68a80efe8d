"""Slices and classes of a batch, pair by pair: what is known of them, and which of them a step learns from."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Pairs(NamedTuple):
    """What is known of each slice and class of a batch: all but `truth` bool [N, P], at most one of the three true.

    positive: the class has a true mask. negative: it is not on the slice. open: it is there, nobody has drawn where.
    truth: bool [N, P, rows, columns], false outside `positive`.
    """

    positive: Tensor
    negative: Tensor
    open: Tensor
    truth: Tensor


def known_pairs(presence: Tensor, mask: Tensor, annotated: Tensor, classes: int) -> Pairs:
    """Sort the slices and classes of a batch, by what is known of them.

    Args:
        presence: [N, P] 0 or 1. mask: int64 [N, rows, columns] class index. annotated: [N] 0 or 1.
        classes: P.

    A class that a slice's bit says and its mask lacks (smaller than a voxel of the grid, or turned out of view) is
    none of the three.
    """
    drawn = annotated.view(-1, 1) > 0.5  # [N, 1]
    there = presence > 0.5
    index = torch.arange(1, classes + 1, device=mask.device).view(1, -1, 1, 1)
    truth = (mask[:, None] == index) & drawn[..., None, None]  # [N, P, rows, columns]
    positive = truth.flatten(2).any(2)
    return Pairs(positive, ~there & ~positive, there & ~drawn, truth)


def some_pairs(wanted: Tensor, limit: int | None, generator: torch.Generator) -> Tensor:
    """Return bool [N, P] with at most `limit` of the pairs that are true in `wanted` [N, P], drawn at random."""
    pairs = wanted.flatten().nonzero()[:, 0]
    if limit is None or len(pairs) <= limit:
        return wanted
    chosen = torch.zeros_like(wanted).flatten()
    chosen[pairs[torch.randperm(len(pairs), generator=generator)[:limit].to(pairs.device)]] = True
    return chosen.view_as(wanted)
