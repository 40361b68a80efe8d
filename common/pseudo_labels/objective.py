"""Learning from pseudo labels: Dice and cross entropy, blind where the pseudo label is in doubt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.losses import DiceLoss
from monai.transforms import MapTransform
from monai.transforms.traits import RandomizableTrait
from torch import Tensor, nn

from ..learning.partial import merge_unknown


class AddPseudoLabeld(MapTransform, RandomizableTrait):
    """Add a case's pseudo label: `target` [K, H, W, D] and `weight` [1, H, W, D], 0 where it is in doubt.

    Not cached: the pseudo label may change while volumes are kept.

    Args:
        labeller: has `load(case)` -> {"target", "weight"}, and `known` where true labels don't tell about all classes.
    """

    def __init__(self, labeller: Any) -> None:
        super().__init__(["case"])
        self.labeller = labeller

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        taught = self.labeller.load(data["case"])
        return {**data, **{key: taught[key] for key in ("target", "weight", "known") if key in taught}}


class SegmentObjective(nn.Module):
    """Fit the network to soft pseudo labels; voxels of weight 0 teach nothing.

    A batch may have `known` [B, K] bool, the classes that a target tells about, see `merge_unknown`.

    Args:
        network: image [B, 1, H, W, D] -> logits [B, K, H, W, D].
        dice_weight: of the Dice of the foreground beside the cross entropy; 0 leaves it out.
        class_weights: of each class in the cross entropy, background first; a short list ends with its last one
            repeated; None: equal. The sum is divided by the number of voxels and not by that of the weights.

    forward: {"image" [B, 1, H, W, D], "target" [B, K, H, W, D] probabilities, "weight" [B, 1, H, W, D]} ->
        {"loss", "cross_entropy", "dice"}; "dice" only where it counts.
    """

    def __init__(
        self, network: nn.Module, dice_weight: float = 1.0, class_weights: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        self.network, self.dice_weight = network, dice_weight
        self.dice = DiceLoss(include_background=False, soft_label=True)
        self.class_weights = None if class_weights is None else [float(w) for w in class_weights]

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        logits = merge_unknown(self.network(batch["image"]).float(), batch.get("known"))
        target, weight = batch["target"].float(), batch["weight"].float()
        logs = torch.log_softmax(logits, dim=1)
        if self.class_weights is None:
            entropy = -(target * logs).sum(1, keepdim=True)
        else:
            each = self._each_class(logits)
            entropy = -(each * target * logs).sum(1, keepdim=True)
        losses = {"cross_entropy": (entropy * weight).sum() / weight.sum().clamp_min(1.0)}
        loss = losses["cross_entropy"]
        if self.dice_weight:
            # MONAI's MaskedDiceLoss masks before the softmax, where a 0 is an opinion too
            losses["dice"] = self.dice(logs.exp() * weight, target * weight)
            loss = loss + self.dice_weight * losses["dice"]
        return {"loss": loss, **losses}

    def _each_class(self, logits: Tensor) -> Tensor:
        """Return the class weights [1, K, 1, 1, 1]; a short list ends with its last one repeated."""
        k = logits.shape[1]
        given = (self.class_weights + [self.class_weights[-1]] * k)[:k]
        return logits.new_tensor(given).view(1, k, 1, 1, 1)
