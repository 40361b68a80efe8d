"""Which labels are on a slice: a classifier whose maps say where, taught sub-classes beside its labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from ..common.errors import InputError
from ..common.imaging.cam import CamHead, pool
from ..common.sam.features.volume import encode_volume, spaced_slices
from ..common.slices.presence_volume import slice_bits
from ..common.tensors import grey

KINDS = ("pre_neck", "embedding")


class SliceClassifier(nn.Module):
    """Parent head (labels) and child head (sub-classes) on shared features, as in WeakMedSAM's SCE.

    The child task shapes the maps through what both heads share: the hidden layer, or a backbone that is tuned. On
    frozen features without a hidden layer it has no influence on the parent's maps.

    Args:
        in_channels: D of the features.
        classes: P.
        subclasses: K of each label; 1 for no child head (plain CAM).
        hidden: channels of a shared 3x3 convolution with GELU; 0 for none, as published.
        pooling, top_share: of both heads, see `CamHead`.
        bias: of the heads.

    forward: features [N, D, h, w] -> parent logits [N, P], maps [N, P, h, w]
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        subclasses: int = 8,
        hidden: int = 0,
        pooling: str = "mean",
        top_share: float = 0.1,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.classes, self.subclasses, self.hidden, self.pooling = classes, subclasses, hidden, pooling
        how: dict[str, Any] = {"pooling": pooling, "top_share": top_share, "bias": bias}
        self.parent = CamHead(in_channels, classes, hidden, **how)
        self.child = CamHead(hidden or in_channels, classes * subclasses + 1, **how) if subclasses > 1 else None

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.parent(features)

    def forward_both(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return parent logits [N, P], maps [N, P, h, w] and child logits [N, P * K + 1], None where K is 1."""
        shared = self.parent.trunk(features)
        maps = self.parent.last(shared)
        logits = pool(maps, self.parent.pooling, self.parent.top_share)
        return logits, maps, None if self.child is None else self.child(shared)[0]


class ClassifierObjective(nn.Module):
    """Binary cross entropy of labels and, weighted, of sub-classes, each a mean over slices and outputs.

    Batch: presence [B, P, H, W, D]; inside [B, 1, H, W, D], 0 beyond the scan, whose slices alone count (without it
    all do); child [B, n, P * K + 1] where the classifier has a child head; features
    [B, n, D, h, w] of n slices (all, or evenly spaced ones as `encode_volume` chooses them) or, for a backbone that is
    tuned, image [B, C, H, W, D].

    Returns {"loss", "parent", "child", "negative"}, the last two only where they count.

    Args:
        classifier: what is learnt.
        slice_axis: 0, 1 or 2 of the RAS grid.
        child_weight: of the sub-classes; 0.5 as published.
        slices_per_volume: how many slices of each volume a training step takes, drawn anew from torch's generator,
            which every epoch seeds (`StageCheckpoint`); None takes all. Out of training all are taken.
        negative_weight: of the maps' places on negative slices, each of which is exact background; 0 as published.
        backbone: `SliceBackbone` that is tuned with the heads, made trainable here; None for given features.
        kind: of a tuned backbone's features, "pre_neck" (as published) or "embedding".
        context: of a tuned backbone's input, see `encode_volume`.
        channel: of the image, that a tuned backbone sees; None: the mean of all.

    Raises:
        InputError: a setting out of its range; features of more slices than the volume has.
    """

    def __init__(
        self,
        classifier: SliceClassifier,
        slice_axis: int,
        child_weight: float = 0.5,
        slices_per_volume: int | None = None,
        negative_weight: float = 0.0,
        backbone: nn.Module | None = None,
        kind: str = "pre_neck",
        context: int = 0,
        channel: int | None = None,
    ) -> None:
        super().__init__()
        weights = {"child_weight": child_weight, "negative_weight": negative_weight}
        problems = [f"{name} is {weight}; wanted 0 or more" for name, weight in weights.items() if weight < 0]
        if slice_axis not in (0, 1, 2):
            problems.append(f"slice_axis is {slice_axis}; wanted 0, 1 or 2")
        if slices_per_volume is not None and slices_per_volume < 1:
            problems.append(f"slices_per_volume is {slices_per_volume}; wanted 1 or more, or null for all")
        if kind not in KINDS:
            problems.append(f"kind is {kind!r}; wanted {' or '.join(KINDS)}")
        if problems:
            raise InputError(problems)
        self.classifier, self.slice_axis = classifier, slice_axis
        self.child_weight, self.negative_weight = child_weight, negative_weight
        self.slices_per_volume, self.kind, self.context = slices_per_volume, kind, context
        self.channel = channel
        self.backbone = None if backbone is None else backbone.tune(True)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        slices = batch["presence"].shape[self.slice_axis + 2]
        encoded = slices if self.backbone is not None else batch["features"].shape[1]
        if encoded > slices:
            raise InputError(f"features of {encoded} slices; wanted at most {slices}, as in the volume")
        chosen = self._choose(encoded).to(batch["presence"].device)
        position = spaced_slices(slices, encoded).to(chosen.device)[chosen]  # of the chosen in the volume
        bits = slice_bits(batch["presence"], self.slice_axis)[..., position].movedim(1, 2).flatten(0, 1)  # [B * m, P]
        inside = batch.get("inside", torch.ones_like(batch["presence"][:, :1]))
        scanned = inside.movedim(self.slice_axis + 2, 1).flatten(2).any(2)[:, position].flatten()[:, None]
        weight = scanned.float() / scanned.float().mean().clamp_min(1e-6)  # [B * m, 1]
        logits, maps, child = self.classifier.forward_both(self._features(batch, chosen, position))
        losses = {"parent": binary_cross_entropy_with_logits(logits.float(), bits.float(), weight)}
        total = losses["parent"]
        if child is not None and self.child_weight > 0:
            wanted = batch["child"][:, chosen].flatten(0, 1).float()  # [B * m, P * K + 1]
            losses["child"] = binary_cross_entropy_with_logits(child.float(), wanted, weight)
            total = total + self.child_weight * losses["child"]
        if self.negative_weight > 0:
            absent = (~bits & scanned).float()[:, :, None, None].expand(maps.shape)
            losses["negative"] = (softplus(maps.float()) * absent).sum() / absent.sum().clamp_min(1)
            total = total + self.negative_weight * losses["negative"]
        return {"loss": total, **losses}

    def _choose(self, count: int) -> Tensor:
        """Return which of `count` encoded slices the step takes, sorted."""
        wanted = self.slices_per_volume
        if not self.training or wanted is None or wanted >= count:
            return torch.arange(count)
        return torch.randperm(count)[:wanted].sort().values

    def _features(self, batch: Mapping[str, Tensor], chosen: Tensor, position: Tensor) -> Tensor:
        """Return the features [B * m, D, h, w] of the chosen slices."""
        if self.backbone is None:
            return batch["features"][:, chosen].flatten(0, 1).float()
        encoder = self.backbone.features if self.kind == "pre_neck" else None
        volume = encode_volume(
            self.backbone,
            grey(batch["image"], self.channel),
            slice_axis=self.slice_axis + 2,
            slices=position.tolist(),
            batch_size=max(1, len(position)),
            context=self.context,
            encoder=encoder,
        )  # [B, D, ...] with m at the slice axis
        return volume.movedim(self.slice_axis + 2, 1).flatten(0, 1)
