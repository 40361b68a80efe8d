"""DTC: a second head learns level sets; both heads shall say the same."""

from __future__ import annotations

from typing import Any

import torch
from monai.transforms.utils import distance_transform_edt
from torch import Tensor

from ..common.tensors import mean_where
from ..network import Specialist
from .base import SemiSupervisedObjective, no_loss


class DualTaskConsistency(SemiSupervisedObjective):
    """Segmentation and level sets of one network agree on all items (Luo 2021, arXiv 2009.04448).

    From the paper: the level set head (tanh) of the same body, here its channels K and up; mean squared error to the
    signed distance of labelled items, negative inside, 0 on the boundary, scaled to [-1, 1]; the smooth way back to a
    mask, sigmoid(-k phi) with k = 1500; mean squared distance of the two masks over labelled and unlabelled items;
    weight 1 at the end of its ramp (set `consistency_weight` to 1 for that). From the authors' release: 0.3 for the
    level set loss. Choice: one level set per foreground class, compared with that class's softmax; an absent class has
    distance 1 everywhere.

    Args:
        level_set_weight: of the level set loss of labelled items, relative to Dice + cross entropy.
        steepness: k.
    """

    title = "DTC"

    def __init__(
        self, network: Specialist, *, level_set_weight: float = 0.3, steepness: float = 1500.0, **options: Any
    ) -> None:
        super().__init__(network, **options)
        self.level_set_weight, self.steepness = level_set_weight, steepness

    @staticmethod
    def body_channels(classes: int) -> int:
        return 2 * classes - 1

    def method_losses(self, batch: dict[str, Tensor], output: Tensor, progress: float) -> dict[str, Tensor]:
        classes, labeled = self.network.classes, batch["labeled"].bool()
        level_set = torch.tanh(output[:, classes : 2 * classes - 1])
        mask = torch.sigmoid(-self.steepness * level_set)
        inside = self.inside(batch)
        losses = {"consistency": mean_where((mask - self.probabilities(output)[:, 1:]).square(), inside)}
        losses["level_set"] = no_loss(output)
        if bool(labeled.any()):
            hard = batch["label"][labeled].argmax(1)
            wanted = torch.stack([signed_distance(torch.stack([m == k for m in hard])) for k in range(1, classes)], 1)
            weight = self.supervised_weight * self.level_set_weight
            distance = (level_set[labeled] - wanted).square()
            if "known" in batch:  # of a class that a label doesn't tell about there is no level set
                distance = distance * batch["known"][labeled, 1:].to(distance).view(*distance.shape[:2], 1, 1, 1)
            losses["level_set"] = weight * mean_where(distance, inside[labeled])
        return losses


@torch.no_grad()
def signed_distance(mask: Tensor) -> Tensor:
    """Return the Euclidean distance to a mask's surface, voxels scaled to [-1, 1], negative inside.

    Args:
        mask: [N, H, W, D] bool.

    Returns:
        [N, H, W, D] float32: 0 on the mask's outermost voxels; each side is divided by its largest distance. 1
        everywhere for an empty mask, -1 for a full one.
    """
    maps = []
    for item in mask:
        if not bool(item.any()) or bool(item.all()):
            maps.append(torch.full_like(item, -1.0 if bool(item.any()) else 1.0, dtype=torch.float32))
            continue
        both = torch.stack([item, ~item]).float()
        inside, outside = torch.as_tensor(distance_transform_edt(both), dtype=torch.float32, device=mask.device)
        inside = (inside - 1).clamp_min(0)  # the outermost voxels of the mask are its boundary
        maps.append(outside / outside.amax() - inside / inside.amax().clamp_min(1e-8))
    return torch.stack(maps)
