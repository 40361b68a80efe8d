"""Structures that are one piece: known from labels, kept so in predictions."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor

from ..grid.native import largest
from ..grid.to_grid import class_boxes
from ..imaging.morphology import main_components

WHOLE = 0.95  # share of a structure in its largest piece, from which on it is one: resampling cuts thin ends off


def largest_share(label: Tensor) -> dict[int, float]:
    """Return which share of each class that is in a label map [H, W, D] its largest piece holds, by class."""
    shares = {}
    for number, box in class_boxes(label).items():
        own = label[box] == number
        shares[number] = float(main_components(own, share=1.0)[0].sum() / own.sum())
    return shares


def keep_largest(probabilities: Tensor, classes: Collection[int]) -> None:
    """Give all pieces of some classes but the largest to the background, in place; what is left says the same.

    A window that sees a part of a body alone finds organs where there are none; nnU-Net's postprocessing is the same,
    and so is MONAI's KeepLargestConnectedComponent, which wants scikit-image and a label map.

    Args:
        probabilities: [K, H, W, D], background first.
        classes: that are one piece.
    """
    found = largest(probabilities)
    for number, box in class_boxes(found).items():
        if number in classes:
            own = found[box] == number
            rest = own & ~main_components(own, share=1.0)[0]
            probabilities[(0, *box)] += probabilities[(number, *box)] * rest
            probabilities[(number, *box)].masked_fill_(rest, 0)
