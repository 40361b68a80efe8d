"""How sure a prediction is of each voxel."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def normalized_entropy(probabilities: Tensor, dim: int = 0) -> Tensor:
    """Return the entropy of class probabilities along `dim`, divided by log K: 0 is certain, 1 is a guess.

    Args:
        probabilities: K >= 2 classes along `dim`, each in [0, 1], summing to 1.
    """
    entropy = torch.special.entr(probabilities).sum(dim)
    return (entropy / math.log(probabilities.shape[dim])).clamp(0, 1)
