"""The segmentation loss that the bundles share."""

from __future__ import annotations

from monai.losses import DiceLoss
from torch import Tensor, nn
from torch.nn import functional as F

from ..tensors import known_share


class SoftDiceCE(nn.Module):
    """Dice (foreground, soft targets) plus cross entropy in float32; logits and probabilities [B, K, H, W, D].

    Voxels whose classes are all 0, as outside the scan, count in neither.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dice = DiceLoss(include_background=False, soft_label=True)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        logits, target = logits.float(), target.float()
        known = known_share(target)
        # MONAI's MaskedDiceLoss masks before the softmax, where a 0 is an opinion too
        dice = self.dice(logits.softmax(1) * known, target)
        return dice + F.cross_entropy(logits, target) / known.mean().clamp_min(1e-6)
