"""LayerNorm over the channels of images and volumes."""

from __future__ import annotations

from torch import Tensor, nn


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of [B, C, ...]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)
