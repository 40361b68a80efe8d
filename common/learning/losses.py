"""The segmentation loss that the bundles share."""

from __future__ import annotations

from monai.losses import DiceLoss
from torch import Tensor, nn
from torch.nn import functional as F


class SoftDiceCE(nn.Module):
    """Dice (foreground, soft targets) plus cross entropy in float32; logits and probabilities [B, K, H, W, D]."""

    def __init__(self) -> None:
        super().__init__()
        self.dice = DiceLoss(softmax=True, include_background=False, soft_label=True)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        logits, target = logits.float(), target.float()
        return self.dice(logits, target) + F.cross_entropy(logits, target)
