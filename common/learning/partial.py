"""Labels that tell about some structures alone: what of a prediction they can be compared with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

NOTHING = -1e4  # logit whose probability is 0 in every precision


def known_classes(known_labels: Iterable[int] | None, label_values: Sequence[int]) -> Tensor:
    """Return which classes a label tells about, bool [K]; background, the first, counts as one.

    Args:
        known_labels: the values; None: all.
        label_values: value of each class, background first.
    """
    told = set(label_values) if known_labels is None else {int(value) for value in known_labels}
    return torch.tensor([number == 0 or int(value) in told for number, value in enumerate(label_values)])


def merge_unknown(logits: Tensor, known: Tensor | None) -> Tensor:
    """Return logits in which the probability of each item's unknown classes is the background's, and theirs is 0.

    What a partial label calls background is background or an unknown class. Dice and cross entropy of the result say
    nothing on which of these: the marginal loss of Shi et al. (Medical Image Analysis 2021). Nor is anything left for
    an unknown class where a known structure is, since one softmax has them all: their exclusion loss has nothing to
    add. The Dice of an unknown class, which is empty in both, is 1, so that a known one weighs what it always does.

    Args:
        logits: or log-probabilities, [B, K, ...], background first.
        known: bool [B, K], see `known_classes`; None, or all true: the logits are returned as they are.
    """
    if known is None or bool(known.all()):
        return logits
    unknown = ~known.to(logits.device).view(*known.shape, *[1] * (logits.ndim - 2))
    unknown[:, 0] = True
    background = logits.masked_fill(~unknown, -torch.inf).logsumexp(1, keepdim=True)
    return torch.cat([background, logits.masked_fill(unknown, NOTHING)[:, 1:]], dim=1)


def share_background(label: Tensor, probabilities: Tensor, known: Tensor | None) -> Tensor:
    """Return labels [B, K, ...] whose background is shared between background and unknown classes as is believed.

    Args:
        probabilities: [B, K, ...], what is believed. known: see `merge_unknown`.
    """
    if known is None or bool(known.all()):
        return label
    unknown = ~known.to(label.device)
    unknown[:, 0] = unknown.any(1)  # a whole label keeps its background
    unknown = unknown.view(*known.shape, *[1] * (label.ndim - 2))
    believed = probabilities.to(label) * unknown
    believed = believed / believed.sum(1, keepdim=True).clamp_min(1e-6)
    return torch.where(unknown, believed * label[:, :1], label)
