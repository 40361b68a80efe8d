"""SAMUS' image encoder: SAM ViT-B at 256 pixels with a CNN branch and adapters, under its checkpoints' names."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .neck import ChannelNorm, make_neck
from .position_tables import resize_position_tables
from .segment_anything_import import load_segment_anything

IMAGE_SIZE = 256
GLOBAL_BLOCKS = (2, 5, 8, 11)
# WeakMedSAM's checkpoints carry their classifier's two heads beside the backbone
HEADS = ("parent_fc.weight", "child_fc.weight")


def _layers(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), ChannelNorm(outputs, eps=1e-6), nn.GELU()]


class Convolution(nn.Module):
    """Convolution 3x3, LayerNorm over the channels, GELU; [B, C, H, W] -> [B, outputs, H, W]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(*_layers(inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Down(nn.Module):
    """The same after a pooling by 2."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), *_layers(inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.maxpool_conv(x)


class Pyramid(nn.Module):
    """An optional convolution from 3 to `widths[0]` channels (`inc`), then one `Down` from each width to the next."""

    def __init__(self, widths: tuple[int, ...], from_image: bool = False) -> None:
        super().__init__()
        self.inc = Convolution(3, widths[0]) if from_image else None
        self.downs = nn.Sequential(*(Down(a, b) for a, b in pairwise(widths)))

    def forward(self, x: Tensor) -> Tensor:
        return self.downs(x if self.inc is None else self.inc(x))


class Adapter(nn.Module):
    """Two linear layers with a narrow middle, with or without a residual; [..., C] -> the same."""

    def __init__(self, channels: int, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.D_fc1 = nn.Linear(channels, channels // 4)
        self.D_fc2 = nn.Linear(channels // 4, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.D_fc2(F.gelu(self.D_fc1(x)))
        return x + y if self.residual else y


class CrossAttention(nn.Module):
    """Every token [B, H, W, C] of the ViT asks all tokens [B, H, W, C] of the CNN branch; no position code."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.proj = (nn.Linear(channels, channels) for _ in range(4))

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        # [B, H, W, C] -> [B, heads, H * W, C / heads]
        q, k, v = (
            layer(tokens).flatten(1, 2).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, tokens in ((self.q, x), (self.k, branch), (self.v, branch))
        )
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape))


class GlobalBlock(nn.Module):
    """SAM's block with global attention, fed by the CNN branch: tokens and branch [B, H, W, C] -> both anew."""

    window_size = 0  # as segment_anything marks a block with global attention

    def __init__(self, block: nn.Module, channels: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2, self.mlp = block.norm1, block.attn, block.norm2, block.mlp
        self.MLP_Adapter = Adapter(channels, residual=False)
        self.Space_Adapter = CrossAttention(channels, heads)
        self.refine_Adapter = Convolution(channels, channels)

    def forward(self, x: Tensor, branch: Tensor) -> tuple[Tensor, Tensor]:
        normed = self.norm1(x)
        # the adapter reads the branch before its refinement
        x = x + self.attn(normed + self.Space_Adapter(normed, branch))
        branch = self.refine_Adapter(branch.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        normed = self.norm2(x)
        return x + self.mlp(normed) + 0.5 * self.MLP_Adapter(normed), branch


class SamusEncoder(nn.Module):
    """Image encoder of SAMUS and WeakMedSAM: [B, 1 or 3, 256, 256] in [0, 1] -> [B, 256, 32, 32].

    SAM's patches of 16 pixels are taken every 8 pixels, so 256 pixels give 32x32 tokens. `pos_embed` keeps SAM's 64x64
    and is brought down by a learnt convolution. The window blocks are `segment_anything`'s own.

    Computes what the public repositories xianlin7/SAMUS and wanghr64/WeakMedSAM compute (tested against outputs that
    were recorded with that code and given weights).
    """

    def __init__(self, channels: int = 768, depth: int = 12, heads: int = 12, outputs: int = 256) -> None:
        super().__init__()
        modeling = load_segment_anything()
        grid = IMAGE_SIZE // 8
        self.pos_embed = nn.Parameter(torch.zeros(1, 2 * grid, 2 * grid, channels))
        self.patch_embed = modeling.image_encoder.PatchEmbed((16, 16), (8, 8), embed_dim=channels)
        self.cnn_embed = Pyramid((64, 128, 256, channels), from_image=True)
        self.post_pos_embed = Pyramid((channels, channels))
        self.input_Adapter = Adapter(channels, residual=True)
        self.blocks = nn.ModuleList()
        for index in range(depth):
            block = modeling.image_encoder.Block(
                channels,
                heads,
                norm_layer=partial(nn.LayerNorm, eps=1e-6),
                use_rel_pos=True,
                window_size=0 if index in GLOBAL_BLOCKS else 14,
                input_size=(grid, grid),
            )
            self.blocks.append(GlobalBlock(block, channels, heads) if index in GLOBAL_BLOCKS else block)
        self.neck = make_neck(channels, outputs)

    def features(self, x: Tensor) -> Tensor:
        """Return the input of the neck [B, 768, 32, 32]: the last block and half of the CNN branch."""
        x = x.expand(-1, 3, -1, -1)
        branch = self.cnn_embed(x).permute(0, 2, 3, 1)  # [B, 32, 32, 768]
        height, width = x.shape[-2:]
        x = F.interpolate(x, (height + 8, width + 8), mode="bilinear", align_corners=False)
        position = self.post_pos_embed(self.pos_embed.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        x = self.input_Adapter(self.patch_embed(x)) + position
        for block in self.blocks:
            if isinstance(block, GlobalBlock):
                x, branch = block(x, branch)
            else:
                x = block(x)
        return (x + 0.5 * branch).permute(0, 3, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.neck(self.features(x))


def samus_tensors(tensors: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Return what a checkpoint of SAM ViT-B, SAMUS or WeakMedSAM says of `model`, for the strict loading.

    The two heads of WeakMedSAM are left out. A checkpoint that has nothing of what SAMUS adds to SAM (79 tensors) is
    one of SAM: `model` keeps its own for these, and the global position tables are interpolated to 32x32 tokens.
    """
    found = {name: value for name, value in tensors.items() if name not in HEADS}
    added = {name: value for name, value in model.state_dict().items() if is_added(name)}
    if not added.keys() & found.keys():
        found.update(added)
    return resize_position_tables(found, model)


def is_added(name: str) -> bool:
    """Tell whether a tensor is one that SAMUS adds to SAM: of the CNN branch or of an adapter."""
    return any(part in name for part in (".cnn_embed.", ".post_pos_embed.", "_Adapter."))
