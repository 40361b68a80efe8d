"""A small convolutional branch beside the frozen encoder, for the detail that its tokens lose (DB-SAM)."""

from __future__ import annotations

from math import log2

import torch
from monai.networks.blocks import ResidualSELayer, ResidualUnit
from torch import Tensor, nn
from torch.nn import functional as F

from ..common.sam.build import SamModel

POOLED = 8  # rows and columns of the branch's tokens that features look at


class SideBranch(nn.Module):
    """Residual units from the image to the encoder's grid, which features and branch exchange by cross attention.

    After DB-SAM (Qin et al. 2024), with plain cross attention on pooled tokens where that has deformable attention, a
    CUDA operator. Features are as they were until it has learnt.

    forward: square [N, 3, S, S] as the encoder sees it, features [N, C, h, w] -> features, detail [N, C / 8, 4h, 4w].
    """

    def __init__(self, sam: SamModel, width: int = 16) -> None:
        super().__init__()
        channels = sam.prompt_encoder.no_mask_embed.weight.shape[1]
        steps, inputs = int(log2(sam.stride)), 3
        self.fine, self.coarse = nn.ModuleList(), nn.ModuleList()  # until there are 4 pixels a token, and on
        for number in range(steps):
            outputs = width * 2 ** min(number, 3)
            unit = nn.Sequential(ResidualUnit(2, inputs, outputs, strides=2), ResidualSELayer(2, outputs))
            (self.fine if number < steps - 2 else self.coarse).append(unit)
            inputs = outputs
            if number == steps - 3:
                self.detail = nn.Conv2d(outputs, channels // 8, 1)
        if not len(self.fine):  # an encoder of 4 pixels a token: detail is the image itself
            self.detail = nn.Conv2d(3, channels // 8, 3, padding=1)
        self.to_branch, self.to_features = (nn.MultiheadAttention(channels, 8, batch_first=True) for _ in range(2))
        self.widen, self.norms = nn.Conv2d(inputs, channels, 1), nn.ModuleList(nn.LayerNorm(channels) for _ in range(2))
        self.fuse = nn.Conv2d(2 * channels, channels, 1)
        for layer in (self.fuse, self.detail):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, square: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        x = square
        for unit in self.fine:
            x = unit(x)
        detail = self.detail(x)
        for unit in self.coarse:
            x = unit(x)
        branch = self.widen(x)
        image, tokens = (y.flatten(2).transpose(1, 2) for y in (features, F.adaptive_avg_pool2d(branch, POOLED)))
        pooled = F.adaptive_avg_pool2d(features, POOLED).flatten(2).transpose(1, 2)
        tokens = self.norms[0](tokens + self.to_branch(tokens, pooled, pooled, need_weights=False)[0])
        seen = self.norms[1](self.to_features(image, tokens, tokens, need_weights=False)[0])
        seen = seen.transpose(1, 2).reshape(features.shape)
        return features + self.fuse(torch.cat([seen, branch], dim=1)), detail
