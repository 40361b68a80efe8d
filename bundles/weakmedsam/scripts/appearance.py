"""What a structure's tissue looks like, learnt without its place: the network of the appearance rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.transforms import MapTransform
from monai.transforms.traits import RandomizableTrait
from torch import Tensor, nn
from torch.nn import functional as F

from .common.grid.field_of_view import inside_scan
from .labeller import PseudoLabeller
from .prior.organs import merge


class AppearanceNetwork(nn.Module):
    """Score voxels by their 7 x 7 x 7 surroundings alone.

    It is equivariant to translation and sees no coordinates, so it can't copy the location that its labels were made
    from; what it can learn is which tissue is common there and absent from the slices that are known to be negative.

    Args:
        classes: G labels, or groups of labels that share a map.
        channels: of the two hidden layers.
        in_channels: C of the image.

    forward: image [B, C, H, W, D] -> logits [B, G, H, W, D]; each volume is standardised first.
    """

    def __init__(self, classes: int, channels: int = 16, in_channels: int = 1) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before in (in_channels, channels):
            convolution = nn.Conv3d(before, channels, 3, padding=1, padding_mode="replicate", bias=False)
            layers += [convolution, nn.BatchNorm3d(channels), nn.LeakyReLU(0.1)]
        self.layers = nn.Sequential(*layers, nn.Conv3d(channels, classes, 3, padding=1, padding_mode="replicate"))

    def forward(self, image: Tensor) -> Tensor:
        mean, deviation = image.mean((2, 3, 4), keepdim=True), image.std((2, 3, 4), keepdim=True)
        return self.layers((image - mean) / deviation.clamp_min(1e-3))


class AppearanceObjective(nn.Module):
    """Fit the soft labels of each group of labels by itself: cross-entropy and Dice.

    What another group covers in slices where this one is absent teaches it nothing, since both may look alike; in the
    slices that both are on they have to differ, and each is background for the other.

    Args:
        network: image -> logits [B, G, H, W, D].
        groups: of each label the number of its group, of `choose_groups`.

    forward: batch with `image` [B, C, H, W, D], `presence` [B, P, H, W, D], `target` [B, P, H, W, D] in [0, 1], 0 in
        negative slices, and `inside` [B, 1, H, W, D], 0 beyond the scan (without it all is
        scanned) -> {"loss", "cross_entropy", "dice"}.
    """

    def __init__(self, network: nn.Module, groups: Sequence[int]) -> None:
        super().__init__()
        self.network, self.groups = network, list(groups)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        logits = self.network(batch["image"]).float()
        target, presence = (merge(batch[name].float(), self.groups) for name in ("target", "presence"))
        inside = batch.get("inside", torch.ones_like(batch["image"][:, :1])).float()
        weight = (1 - (1 - presence) * others(target)) * inside
        entropy = F.binary_cross_entropy_with_logits(logits, target, weight) / inside.mean()
        probability, axes = logits.sigmoid() * weight, (0, 2, 3, 4)
        overlap, total = (probability * target).sum(axes), (probability + target * weight).sum(axes)
        dice = (1 - (2 * overlap + 1) / (total + 1)).mean()
        return {"loss": entropy + dice, "cross_entropy": entropy.detach(), "dice": dice.detach()}


def others(target: Tensor) -> Tensor:
    """Return how much any other label covers each voxel, [B, P, H, W, D] of soft labels of that shape."""
    if target.shape[1] == 1:
        return torch.zeros_like(target)
    best = target.topk(2, dim=1).values
    first, second = best[:, :1], best[:, 1:]
    return torch.where(target == first, second, first)


class AddTargetd(MapTransform, RandomizableTrait):
    """Add the soft labels of the current round as `target` [P, H, W, D], not cached, since they change; and `inside`
    [1, H, W, D], 0 beyond the scan."""

    def __init__(self, labeller: PseudoLabeller) -> None:
        super().__init__(["case"])
        self.labeller = labeller

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        return {**data, "target": self.labeller.target(data["case"]), "inside": inside_scan(data["image"])}


class AppearanceRounds:
    """Ignite handler: at the start of each round but the first, new soft labels by the network as it is then.

    Args:
        labeller: makes the labels.
        network: the appearance network in training.
    """

    def __init__(self, labeller: PseudoLabeller, network: nn.Module) -> None:
        self.labeller, self.network = labeller, network

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self.start_round)

    @torch.no_grad()
    def start_round(self, engine: Engine) -> None:
        per_round = -(-engine.state.max_epochs // max(1, self.labeller.rounds))
        number = (engine.state.epoch - 1) // per_round + 1
        if number > self.labeller.round:
            self.labeller.renew(number, self.network)
