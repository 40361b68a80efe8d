"""What a slice model says of slices."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Answer(NamedTuple):
    """Of N slices, K classes with the background first; m x m is the encoder's whole square at any resolution.

    logits: [N, K, m, m], what counts.
    first: [N, K, m', m'] of an earlier stage or an auxiliary head, which learns too; None without one.
    patches: [N, P, h, w] logits of a patch map of each of P = K - 1 structures; None without one.
    """

    logits: Tensor
    first: Tensor | None = None
    patches: Tensor | None = None


def with_background(logits: Tensor) -> Tensor:
    """Return binary logits of structures [N, P, m, m] as those of classes [N, K, m, m]; the background's are 0."""
    return torch.cat([torch.zeros_like(logits[:, :1]), logits], dim=1)
