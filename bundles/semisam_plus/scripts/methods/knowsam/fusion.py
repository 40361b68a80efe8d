"""What two specialists say together: a head that looks at where they differ and how sure each of them is."""

from __future__ import annotations

import math

import torch
from monai.networks.blocks import Convolution
from torch import Tensor, nn


def entropy(logits: Tensor) -> Tensor:
    """Return the entropy of logits [B, K, H, W, D] as a share of log K, [B, 1, H, W, D] in [0, 1]."""
    logs = logits.float().log_softmax(1)
    return -(logs.exp() * logs).sum(1, keepdim=True) / math.log(max(logits.shape[1], 2))


class FusionHead(nn.Module):
    """Turn the logits of two specialists into those of both: three branches see where their classes differ, how sure
    each of them is, and what they say (KnowSAM, Huang et al. 2412.13742, whose head ends in a norm and an activation;
    logits end in neither).

    Args:
        classes: K.
        width: channels of the first two branches, 16 as published; the third has twice as many.

    forward: logits [B, K, H, W, D] of either -> [B, K, H, W, D] float32.
    """

    def __init__(self, classes: int, width: int = 16) -> None:
        super().__init__()

        def branch(channels: int, features: int) -> nn.Module:
            return Convolution(3, channels, features, norm=("instance", {"affine": True}), act="leakyrelu")

        self.differing, self.unsure = branch(1, width), branch(2, width)
        self.said = branch(2 * classes, 2 * width)
        self.joined = nn.Conv3d(4 * width, classes, 3, padding=1)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        differing = (first.argmax(1, keepdim=True) != second.argmax(1, keepdim=True)).to(first)
        unsure = torch.cat([entropy(first), entropy(second)], 1)
        said = torch.cat([first, second], 1)
        features = [self.differing(differing), self.unsure(unsure), self.said(said)]
        return self.joined(torch.cat(features, 1)).float()


class FusedSpecialists(nn.Module):
    """Both specialists and their head as one network, which makes the generalists' prompts.

    It holds what others own: nothing of it is a part of a state or trained twice.

    forward: image [B, C, H, W, D] -> logits [B, K, H, W, D] float32.
    """

    def __init__(self, first: nn.Module, second: nn.Module, head: FusionHead) -> None:
        super().__init__()
        # in a tuple a module is no submodule
        self._parts: tuple[nn.Module, nn.Module, FusionHead] = (first, second, head)
        self.window = first.window

    def train(self, mode: bool = True) -> FusedSpecialists:
        for part in self._parts:
            part.train(mode)
        return super().train(mode)

    def forward(self, image: Tensor) -> Tensor:
        first, second, head = self._parts
        return head(first(image).float(), second(image).float())
