"""The image encoder of SAM-Med3D, under the parameter names of its checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...errors import InputError
from ..members.segment_anything_import import load_segment_anything
from .attention import RelativeAttention3d


class ChannelNorm3d(nn.LayerNorm):
    """LayerNorm over the channels of [B, C, D, H, W], eps 1e-6."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class Block(nn.Module):
    """Attention and MLP, each after a LayerNorm and with a residual; [B, n, n, n, C] -> the same."""

    def __init__(self, channels: int, heads: int, size: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.attn = RelativeAttention3d(channels, heads, size)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = load_segment_anything().common.MLPBlock(channels, 4 * channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed3d(nn.Module):
    """Cubes of voxels to tokens, channels last: [B, 1, D, H, W] -> [B, n, n, n, C]."""

    def __init__(self, channels: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(1, channels, patch_size, patch_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).movedim(1, -1)


class ImageEncoder3d(nn.Module):
    """SAM-Med3D's image encoder (build `vit_b_ori`): [B, 1, S, S, S] -> [B, outputs, S / patch, S / patch, S / patch].

    Only S = `image_size` is possible, because the position table is that of its tokens. The blocks in `global_blocks`
    have tables of relative positions for the grid of tokens, the others for a window of `window`^3 tokens, which is at
    least the grid: the one window is the zero-padded grid. `neck` is a submodule: its input is the last block.

    Computes what the public repository uni-medical/SAM-Med3D computes (tested against outputs that were recorded with
    that code and given weights, not against the public weights), without ever making the padding.
    """

    def __init__(
        self,
        image_size: int = 128,
        patch_size: int = 16,
        channels: int = 768,
        depth: int = 12,
        heads: int = 12,
        global_blocks: Sequence[int] = (2, 5, 8, 11),
        window: int = 14,
        outputs: int = 384,
    ) -> None:
        super().__init__()
        grid = image_size // patch_size
        self.image_size = image_size
        self.patch_embed = PatchEmbed3d(channels, patch_size)
        self.pos_embed = nn.Parameter(torch.zeros(1, grid, grid, grid, channels))
        sizes = [grid if index in global_blocks else window for index in range(depth)]
        self.blocks = nn.ModuleList(Block(channels, heads, size) for size in sizes)
        self.neck = nn.Sequential(
            nn.Conv3d(channels, outputs, 1, bias=False),
            ChannelNorm3d(outputs),
            nn.Conv3d(outputs, outputs, 3, padding=1, bias=False),
            ChannelNorm3d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        side = self.image_size
        if x.ndim != 5 or x.shape[1:] != (1, side, side, side):
            raise InputError(f"SAM-Med3D: found a volume {tuple(x.shape)}, wanted [B, 1, {side}, {side}, {side}]")
        x = self.patch_embed(x) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.neck(x.movedim(-1, 1))
