"""EfficientSAM's image encoder, a plain ViT, under the parameter names of its checkpoints."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .neck import make_neck

_PRETRAINED_GRID = 14  # tokens a side of the published position table


class Attention(nn.Module):
    """Self-attention of all tokens [B, N, C], without relative positions."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.qkv_groups = 1  # all of q comes before all of k
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        # [B, N, 3 * C] -> three of [B, heads, N, C / heads]
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two linear layers with a GELU between; [B, N, C] -> the same."""

    def __init__(self, channels: int, expand: int = 4) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, channels * expand)
        self.fc2 = nn.Linear(channels * expand, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Attention and MLP, each after a LayerNorm and with a residual; [B, N, C] -> the same."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.attn = Attention(channels, heads)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = Mlp(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    """Patches of 16x16 pixels to tokens: [B, 3, H, W] -> [B, C, H / 16, W / 16]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, channels, 16, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


class EfficientViT(nn.Module):
    """EfficientSAM's image encoder: [B, 3, H, W], preprocessed -> [B, 256, H / 16, W / 16].

    Every input size works with the same weights: the published position table (14x14 tokens after an unused first
    entry) is interpolated to the tokens at hand.

    Args:
        channels, heads: 192 and 3 for EfficientSAM-Ti, 384 and 6 for EfficientSAM-S.

    Computes what the public repository yformer/EfficientSAM computes (tested against outputs that were recorded with
    that code and given weights).
    """

    def __init__(self, channels: int, heads: int, depth: int = 12, outputs: int = 256) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + _PRETRAINED_GRID**2, channels))
        self.patch_embed = PatchEmbed(channels)
        self.blocks = nn.ModuleList(Block(channels, heads) for _ in range(depth))
        self.neck = make_neck(channels, outputs)

    def features(self, x: Tensor) -> Tensor:
        """Return the input of the neck [B, channels, H / 16, W / 16]."""
        x = self.patch_embed(x)
        size = x.shape[-2:]
        x = (x + self._position(size)).flatten(2).transpose(1, 2)  # [B, H / 16 * W / 16, channels]
        for block in self.blocks:
            x = block(x)
        return x.transpose(1, 2).unflatten(2, size)

    def _position(self, size: torch.Size) -> Tensor:
        table = self.pos_embed[:, 1:].transpose(1, 2).unflatten(2, (_PRETRAINED_GRID, _PRETRAINED_GRID))
        if table.shape[-2:] == size:
            return table
        return F.interpolate(table, size, mode="bicubic", align_corners=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.neck(self.features(x))
