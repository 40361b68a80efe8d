"""What ADA-SAM sees on slices, and what it answers."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Sight(NamedTuple):
    """What the classifier sees on N slices.

    presence: logits [N, P]. maps: [N, P, h, w] before any normalisation, of the slice's part of the embedding.
    cam: [N, P, rows, columns] in [0, 1] on the slice's grid.
    """

    presence: Tensor
    maps: Tensor
    cam: Tensor


class Response(NamedTuple):
    """What `AdaSam.forward` returns for N slices.

    first: before feedback. sight: after it; the same object where there is none.
    first_logits: [N, P, rows, columns] masks before feedback, None where there is none.
    logits: [N, P, rows, columns], -10 where not asked.
    boxes: [N, P, 4] that the logits answer. asked: bool [N, P], which classes they answer.
    first_asked: bool [N, P], which classes `first_logits` answer, None where there are none.
    """

    first: Sight
    sight: Sight
    first_logits: Tensor | None
    logits: Tensor
    boxes: Tensor
    asked: Tensor
    first_asked: Tensor | None
