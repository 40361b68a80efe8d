"""Gradient feedback: what a first segmentation would change in the embedding asks the embedding for a better look.

The paper's figure fixes the wiring alone (segmentation gradient as query, image features as key and value, the result
joins the class activation map); normalisation, objective without labels, sizes and residual are ours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..common.errors import InputError
from ..common.launch.words import truth

EVIDENCE, TRUTH = "evidence", "gt"
OBJECTIVES = (EVIDENCE, TRUTH)


def read_objective(feedback: bool | str) -> str | None:
    """Return what a setting asks for: "evidence" (also true) or "gt"; None where it is false.

    Raises:
        InputError: none of these.
    """
    if feedback in OBJECTIVES:
        return feedback
    try:
        return EVIDENCE if truth("feedback", feedback) else None
    except InputError as error:
        wanted = f"true, false, {' or '.join(OBJECTIVES)}"
        raise InputError(f"feedback: found {feedback!r}, wanted {wanted}") from error


class GradientFeedback(nn.Module):
    """Cross-attention from a segmentation gradient to the features, added to them as a residual that starts at zero.

    Args:
        channels: C of the features.
        width: d of queries, keys and values over all heads.
        heads: that d is split into.
        tokens: features with more rows or columns are averaged to so many, and the answer is interpolated back.
        dropout: in training, the share of slices that keep their features as they are, so that the features stay
            useful without feedback.

    forward: features [N, C, h, w], gradient [N, C, h, w] of any scale -> features [N, C, h, w]

    Raises:
        InputError: a width that the heads don't divide, or a dropout outside 0 to 1.
    """

    def __init__(self, channels: int, width: int = 64, heads: int = 4, tokens: int = 32, dropout: float = 0.5) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise InputError(f"feedback: found {heads} heads for a width of {width}, wanted a divisor of it")
        if not 0 <= dropout <= 1:
            raise InputError(f"feedback: found dropout {dropout}, wanted 0 to 1")
        self.heads, self.tokens, self.dropout = heads, tokens, dropout
        self.query, self.key, self.value = (nn.Linear(channels, width) for _ in range(3))
        self.out = nn.Linear(width, channels)
        # only the last layer is zero: with two, no gradient would ever reach either
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, features: Tensor, gradient: Tensor) -> Tensor:
        size = features.shape[-2:]
        grid = [min(n, self.tokens) for n in size]
        # [N, hw, C]
        source, asked = (F.adaptive_avg_pool2d(x, grid).flatten(2).mT for x in (features, unit_size(gradient)))
        query, key, value = (
            self._split(self.query(asked)),
            self._split(self.key(source)),
            self._split(self.value(source)),
        )
        answer = F.scaled_dot_product_attention(query, key, value)  # [N, heads, hw, d / heads]
        change = self.out(answer.transpose(1, 2).flatten(2)).mT.unflatten(2, grid)  # [N, C, ., .]
        if list(size) != grid:
            change = F.interpolate(change, size, mode="bilinear", align_corners=False)
        if self.training and self.dropout > 0:
            kept = torch.rand(len(change), 1, 1, 1, device=change.device) >= self.dropout
            change = change * kept
        return features + change

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)  # [N, hw, d] -> [N, heads, hw, d / heads]


def evidence(logits: Tensor, asked: Tensor) -> Tensor:
    """Return how strongly each slice's own masks are meant: the mean logit, weighted by probability, over the masks.

    Needs no label, so that it is the same in training and at a site (in the manner of Seg-Grad-CAM).

    Args:
        logits: [N, P, rows, columns].
        asked: bool [N, P], which of them are answers.

    Returns:
        [N], the sum over a slice's asked classes.
    """
    # softmax(log p) is p / sum(p), also where a mask is far below zero everywhere
    share = F.logsigmoid(logits).flatten(2).softmax(2)
    return ((share * logits.flatten(2)).sum(2) * asked).sum(1)


def agreement(logits: Tensor, asked: Tensor, mask: Tensor) -> Tensor:
    """Return how well each slice's masks agree with the true ones: minus Dice loss and cross entropy.

    The sign is that of `evidence`: along its gradient the masks become better.

    Args:
        logits: [N, P, rows, columns].
        asked: bool [N, P].
        mask: int64 [N, rows, columns], the class index, P for the last.

    Returns:
        [N], the sum over a slice's asked classes.
    """
    classes = torch.arange(1, logits.shape[1] + 1, device=mask.device).view(1, -1, 1, 1)
    target = (mask[:, None] == classes).float()
    probability = logits.sigmoid()
    # smooth 1 above and below, as the authors' code
    overlap = (2 * (probability * target).sum((2, 3)) + 1) / (probability.sum((2, 3)) + target.sum((2, 3)) + 1)
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean((2, 3))
    return ((overlap - 1 - entropy) * asked).sum(1)


def feedback_objective(logits: Tensor, asked: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return `agreement` for slices with a mask and `evidence` for the others, [N].

    Args:
        mask: int64 [N, rows, columns]; a slice without a mask has a negative value everywhere. None: no slice has one.
    """
    score = evidence(logits, asked)
    if mask is None:
        return score
    labelled = (mask >= 0).flatten(1).any(1)
    return torch.where(labelled, agreement(logits, asked, mask), score)


def slice_gradient(score: Tensor, embedding: Tensor, keep_graph: bool = False) -> Tensor:
    """Return the gradient of a score of each slice by its embedding, as a constant: first order only.

    Args:
        score: [N], of the slices.
        embedding: [N, C, h, w] that the score was computed from, which requires a gradient.
        keep_graph: leave the graph of the score for a later backward.

    Returns:
        [N, C, h, w].
    """
    (gradient,) = torch.autograd.grad(score.sum(), embedding, retain_graph=keep_graph)
    return gradient.detach()


def unit_size(gradient: Tensor) -> Tensor:
    """Scale each slice's gradient [N, C, h, w] to a root mean square of 1, float32; zeros stay zeros.

    Raw gradients are of the order of 1e-5, on which attention would be uniform.
    """
    gradient = gradient.float()
    return gradient / (gradient.square().mean((1, 2, 3), keepdim=True).sqrt() + 1e-12)
