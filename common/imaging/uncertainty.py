"""How sure a prediction is of each voxel."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LEAST = 1e-7  # probability, whose logarithm is divided


def normalized_entropy(probabilities: Tensor, dim: int = 0) -> Tensor:
    """Return the entropy of class probabilities along `dim`, divided by log K: 0 is certain, 1 is a guess.

    Args:
        probabilities: K >= 2 classes along `dim`, each in [0, 1], summing to 1.
    """
    entropy = torch.special.entr(probabilities).sum(dim)
    return (entropy / math.log(probabilities.shape[dim])).clamp(0, 1)


def tempered(probabilities: Tensor, temperature: float, dim: int = 0) -> Tensor:
    """Return the probabilities whose logarithms are divided by a temperature: above 1 less sure (Guo et al. 2017)."""
    if temperature == 1:
        return probabilities
    return torch.softmax(probabilities.clamp_min(LEAST).log_().div_(temperature), dim)
