"""How the parts behind the encoder learn from labelled slices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.losses import DiceLoss
from torch import Tensor, nn
from torch.nn import functional as F

from ..common.learning.partial import merge_unknown
from ..common.sam.patch_map import largest_of_patches
from ..slice_model.adapted_sam import HIERARCHICAL, AdaptedSam

FIRST, RAMP = 0.6, 300  # of H-SAM: the second stage's share at first, and epochs after which it is nearly all


class SliceObjective(nn.Module):
    """Dice and cross entropy of what is answered, of an earlier stage or auxiliary head, and of a patch map.

    Two stages share the loss as H-SAM's do: the second one's share is 0.6 ^ (0.99 ^ epoch), of as many epochs as that
    has, whatever the number of steps. An auxiliary head's loss is added. A patch map learns the structures' masks, the
    largest value of each patch.

    Args:
        network: its parts learn.
        total_steps: of the stage.
        dice_weight: of the Dice; the cross entropy has the rest.

    forward: {"planes" [N, 1, rows, columns], "mask" [N, rows, columns] int64, -1 not known, "embedding" [N, T, C, h, w]
        or "slab" [N, T, 1, rows, columns]} -> {"loss", ...}. "known" [N, K] bool, where there is one, are the classes
        that a mask tells about, see `merge_unknown`.
    """

    def __init__(self, network: AdaptedSam, total_steps: int, dice_weight: float = 0.8) -> None:
        super().__init__()
        self.network, self.total_steps, self.dice_weight = network, int(total_steps), float(dice_weight)
        # over the batch: on a slice most of the classes are absent
        self.dice = DiceLoss(include_background=False, batch=True)
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    @property
    def settings(self) -> dict[str, Any]:
        """For run.json."""
        return {"dice_weight": self.dice_weight, "trained": self.network.trained_count, **self.network.settings}

    def second_share(self) -> float:
        """Return the share of the second of two stages at this step."""
        return FIRST ** (0.99 ** (RAMP * int(self.step) / max(self.total_steps, 1)))

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        mask, known = batch["mask"], batch.get("known")
        answer = self.network(self.embedding(batch), batch["planes"])
        losses = {"mask": self.compare(answer.logits, mask, known=known)}
        loss = losses["mask"]
        if answer.first is not None:
            losses["first"] = self.compare(answer.first, mask, known=known)
            if self.network.names["decoder"] == HIERARCHICAL:
                share = self.second_share()
                loss = share * loss + (1 - share) * losses["first"]
            else:
                loss = loss + losses["first"]
        if answer.patches is not None:
            losses["patches"] = self.compare_patches(answer.patches, mask, known)
            loss = loss + losses["patches"]
        if self.training:
            self.step += 1
        return {"loss": loss, **losses}

    def embedding(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the embedding [N, T, C, h, w] of a batch, computed where the encoder learns."""
        if "slab" not in batch:
            return batch["embedding"]
        slab = batch["slab"]
        return self.network.encode(slab.flatten(0, 1)).unflatten(0, slab.shape[:2])

    def compare(
        self, logits: Tensor, mask: Tensor, dice_weight: float | None = None, known: Tensor | None = None
    ) -> Tensor:
        """Return the loss of logits [N, K, m, m] of the encoder's square against a mask [N, rows, columns].

        `dice_weight` as in `SliceObjective`, None is the objective's own; `known` [N, K] as in a batch.
        """
        share = self.dice_weight if dice_weight is None else dice_weight
        logs = merge_unknown(self.network.to_slice(logits, mask.shape[1:]), known)
        inside = (mask >= 0)[:, None]
        target = F.one_hot(mask.clamp_min(0), logs.shape[1]).movedim(-1, 1) * inside
        entropy = F.nll_loss(logs, mask, ignore_index=-1)
        return (1 - share) * entropy + share * self.dice(logs.exp() * inside, target)

    def compare_patches(self, patches: Tensor, mask: Tensor, known: Tensor | None = None) -> Tensor:
        """Return the cross entropy of patch maps [N, P, h, w] of the encoder's square against a mask.

        That of a structure that a mask doesn't tell about is 0.
        """
        masks = F.one_hot(mask.clamp_min(0), patches.shape[1] + 1).movedim(-1, 1)[:, 1:]
        target = largest_of_patches(masks, self.network.sam.preprocessing, patches.shape[2:])
        told = None if known is None else known[:, 1:, None, None].to(target)
        return F.binary_cross_entropy_with_logits(patches.float(), target, told)
