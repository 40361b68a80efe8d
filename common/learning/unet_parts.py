"""MONAI's UNet taken apart, so that a method can distil, prompt or average its encoder, and put together again."""

from __future__ import annotations

import torch
from monai.networks.layers.simplelayers import SkipConnection
from monai.networks.nets import UNet
from torch import Tensor, nn


class UNetEncoder(nn.Module):
    """The way down of a U-Net, its bottom included, level by level.

    forward: image [B, C, H, W, D] -> features of each level, the bottom's last.
    """

    def __init__(self, levels: list[nn.Module]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(levels)

    def forward(self, image: Tensor) -> list[Tensor]:
        features: list[Tensor] = []
        x = image
        for level in self.levels:
            x = level(x)
            features.append(x)
        return features


class UNetDecoder(nn.Module):
    """The way up of a UNet, the step from its bottom first.

    forward: features of the encoder; the image is not looked at -> logits [B, K, H, W, D].
    """

    def __init__(self, steps: list[nn.Module]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)

    def forward(self, features: list[Tensor], image: Tensor) -> Tensor:
        x = features[-1]
        level = len(features) - 2
        for step in self.steps:
            x = step(torch.cat([features[level], x], dim=1))
            level -= 1
        return x


def take_apart(unet: UNet) -> tuple[UNetEncoder, UNetDecoder]:
    """Return both ways of a UNet, which keep its modules; together they compute what it does."""
    levels: list[nn.Module] = []
    steps: list[nn.Module] = []
    block = unet.model
    while isinstance(block, nn.Sequential) and len(block) == 3 and isinstance(block[1], SkipConnection):
        levels.append(block[0])
        steps.insert(0, block[2])
        block = block[1].submodule
    return UNetEncoder([*levels, block]), UNetDecoder(steps)


def put_together(encoder: UNetEncoder, decoder: UNetDecoder) -> nn.Module:
    """Return a module that holds both ways under the names that a UNet gives them."""
    *levels, block = encoder.levels
    for level, step in zip(reversed(levels), decoder.steps, strict=True):
        block = nn.Sequential(level, SkipConnection(block), step)
    whole = nn.Module()
    whole.model = block
    return whole
