"""Mixers of neighbouring slices' features: what turns slices into a volume behind a frozen 2D encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..common.learning.channel_norm import ChannelNorm

REACH = 2  # slices to each side that a mixer sees: five in all, as MA-SAM has


class Slab(nn.Module):
    """A convolution along the slices in a bottleneck, twice, each with a residual (MA-SAM's adapter, Chen et al. 2024).

    Features are mixed as they come from the cache, where MA-SAM's adapters stand inside of every encoder block. What it
    adds is 0 until it has learnt.

    forward: [B, C, n, h, w], n slices in their order -> the same; each depends on `REACH` slices to each side.
    """

    def __init__(self, channels: int, width: int = 64) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(self.block(channels, width) for _ in range(REACH))
        for block in self.blocks:
            nn.init.zeros_(block[-1].weight)
            nn.init.zeros_(block[-1].bias)

    def block(self, channels: int, width: int) -> nn.Sequential:
        """Return one bottleneck, which sees one slice to each side."""
        return nn.Sequential(
            ChannelNorm(channels),
            nn.Conv3d(channels, width, 1, bias=False),
            nn.Conv3d(width, width, (3, 1, 1), padding=(1, 0, 0)),
            nn.GELU(),
            nn.Conv3d(width, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + block(x)
        return x


class Slab3d(Slab):
    """`Slab` with a depthwise convolution of 3x3x3 (the adapter of 3DSAM-adapter, Gong et al. 2023).

    Only that adapter, on stacked features of slices: the ViT turned into 3D, with its input of 512^3, is not built.
    """

    def block(self, channels: int, width: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv3d(channels, width, 1),
            nn.ReLU(),
            nn.Conv3d(width, width, 3, padding=1, groups=width),
            nn.ReLU(),
            nn.Conv3d(width, channels, 1),
        )


class DepthAttention(nn.Module):
    """Attention along the slices at each place of the feature map, behind a bottleneck, with a residual.

    Med-SA (Wu et al. 2023) lets the encoder's own attention run along the depth, too; here it is one layer behind it.

    forward: [B, C, n, h, w] -> the same; each depends on `REACH` slices to each side.
    """

    def __init__(self, channels: int, width: int = 64, heads: int = 4) -> None:
        super().__init__()
        self.norm, self.down = nn.LayerNorm(channels), nn.Linear(channels, width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.up = nn.Linear(width, channels)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        batch, _, n, height, width = x.shape
        tokens = self.down(self.norm(x.permute(0, 3, 4, 2, 1).flatten(0, 2)))  # [B h w, n, width]
        order = torch.arange(n, device=x.device)
        apart = (order[:, None] - order).abs() > REACH
        mixed = self.attention(tokens, tokens, tokens, attn_mask=apart, need_weights=False)[0]
        added = self.up(F.gelu(mixed)).unflatten(0, (batch, height, width))  # [B, h, w, n, C]
        return x + added.permute(0, 4, 3, 1, 2)


MIXERS = {"slab": Slab, "slab3d": Slab3d, "attention": DepthAttention}


def repeat_ends(x: Tensor) -> Tensor:
    """Return features [B, C, n, h, w] with the outermost slices repeated `REACH` times at both ends."""
    return torch.cat([x[:, :, :1].expand(-1, -1, REACH, -1, -1), x, x[:, :, -1:].expand(-1, -1, REACH, -1, -1)], dim=2)
