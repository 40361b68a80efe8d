"""The classifier of the released code: a perceptron on the mean feature, and its Grad-CAM in closed form."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class AverageHead(nn.Module):
    """Linear, ReLU, dropout and linear on the mean feature of a slice (tbwa233/ADA-SAM).

    The gradient of a logit by the features is then the same everywhere, W1^T (m * W2[k]) / hw, m where the hidden layer
    is active, so that Grad-CAM needs no backward pass. The maps are Grad-CAM's before its ReLU, times hw. Dropout never
    touches them.

    Args:
        in_channels: D of the features.
        classes: of the logits and maps.
        hidden: width of the hidden layer.
        dropout: of the hidden layer, for the logits alone.

    forward: features [N, D, h, w] -> logits [N, classes], maps [N, classes, h, w]
    """

    def __init__(self, in_channels: int, classes: int, hidden: int = 256, dropout: float = 0.3) -> None:
        super().__init__()
        self.first = nn.Linear(in_channels, hidden)
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(hidden, classes)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.first(features.mean((2, 3)))
        active = (hidden > 0).to(self.last.weight.dtype)
        gradient = (active[:, None] * self.last.weight) @ self.first.weight  # [N, classes, D]
        maps = torch.einsum("nkd,ndhw->nkhw", gradient, features)
        return self.last(self.dropout(hidden.relu())), maps
