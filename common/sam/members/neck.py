"""The last two convolutions of SAM's image encoders, under the names that all checkpoints of the family share."""

from __future__ import annotations

from torch import Tensor, nn


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of [B, C, H, W]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def make_neck(channels: int, outputs: int) -> nn.Sequential:
    """Return the neck: convolution 1x1 and convolution 3x3, each without bias and followed by a LayerNorm."""
    return nn.Sequential(
        nn.Conv2d(channels, outputs, 1, bias=False),
        ChannelNorm(outputs, eps=1e-6),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        ChannelNorm(outputs, eps=1e-6),
    )
