"""DAN: segmentations of unlabelled images shall look to a discriminator like those of labelled ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from ..network import Specialist
from .base import SemiSupervisedObjective, no_loss

SMALLEST = 16  # voxels along an axis that four strides of 2 leave one of


class Discriminator(nn.Module):
    """Tell from image and segmentation whether the image was labelled.

    Four convolutions of kernel 4 and stride 2, the first one separate for the two inputs, leaky ReLU 0.2, dropout 0.5,
    mean over space, linear; the original averages 6^3 cells of a fixed size, here any size goes.

    forward: probabilities [B, K, H, W, D], image [B, C, H, W, D] -> logits [B, 2], class 1 = labelled.
    """

    def __init__(self, classes: int, width: int = 64, in_channels: int = 1) -> None:
        super().__init__()
        self.from_segmentation = nn.Conv3d(classes, width, 4, stride=2, padding=1)
        self.from_image = nn.Conv3d(in_channels, width, 4, stride=2, padding=1)
        layers: list[nn.Module] = [nn.LeakyReLU(0.2), nn.Dropout3d(0.5)]
        for before in (width, 2 * width, 4 * width):
            layers += [nn.Conv3d(before, 2 * before, 4, stride=2, padding=1), nn.LeakyReLU(0.2), nn.Dropout3d(0.5)]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(8 * width, 2)

    def forward(self, probabilities: Tensor, image: Tensor) -> Tensor:
        missing = [max(SMALLEST - n, 0) for n in image.shape[2:]]
        if any(missing):
            padding = [m for axis in reversed(missing) for m in (0, axis)]
            probabilities, image = F.pad(probabilities, padding), F.pad(image, padding)
        features = self.from_segmentation(probabilities) + self.from_image(image)
        return self.head(self.layers(features).mean((2, 3, 4)))


class DeepAdversarialNetwork(SemiSupervisedObjective):
    """Adversarial term on unlabelled items and the discriminator's own loss, in one optimizer (Zhang 2017, SSL4MIS).

    The discriminator sees detached segmentations; the adversarial term runs through detached weights of the
    discriminator. So neither reaches the other's weights, and one backward serves both.

    Args:
        discriminator_width: channels of the first layer; 64 in SSL4MIS, less saves most of the cost on a CPU.
        discriminator_lr: its learning rate, SSL4MIS's 1e-4; where the optimizer is of Adam's family, with its betas.
    """

    title = "DAN"

    def __init__(
        self, network: Specialist, *, discriminator_width: int = 64, discriminator_lr: float = 1e-4, **options: Any
    ) -> None:
        super().__init__(network, **options)
        self.discriminator = Discriminator(network.classes, discriminator_width, network.channels)
        self.discriminator_lr = discriminator_lr

    def param_groups(self, lr: float) -> list[dict[str, Any]]:
        own = {"params": list(self.discriminator.parameters()), "lr": self.discriminator_lr, "betas": (0.9, 0.99)}
        return [*super().param_groups(lr), own]

    def method_losses(self, batch: dict[str, Tensor], output: Tensor, progress: float) -> dict[str, Tensor]:
        image, labeled = batch["image"], batch["labeled"].bool()
        probabilities = self.probabilities(output) * self.inside(batch)  # of what was scanned alone
        judged = self.discriminator(probabilities.detach(), image).float()
        losses = {"discriminator": F.cross_entropy(judged, labeled.long()), "consistency": no_loss(output)}
        unlabeled = ~labeled
        if bool(unlabeled.any()):
            weights = {name: value.detach() for name, value in self.discriminator.named_parameters()}
            judged = functional_call(self.discriminator, weights, (probabilities[unlabeled], image[unlabeled])).float()
            losses["consistency"] = F.cross_entropy(judged, torch.ones_like(judged[:, 0], dtype=torch.long))
        return losses
