"""The registration branch: the medical encoder sees both volumes, a decoder returns the velocity between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..common.learning.light_unet import LightDecoder
from ..common.registration.fields import integrate


class RegistrationNetwork(nn.Module):
    """Joint registration with a shared encoder (spec 2.3), as a stationary velocity field at half resolution.

    The authors' code predicts a plain displacement; a velocity that is integrated keeps folding near zero.

    Args:
        encoder: the medical encoder, shared with the segmentation.
        channels, strides, norm: of that encoder; strides are one fewer than channels.

    forward: moving, fixed [B, C, H, W, D] -> velocity [B, 3, H/2, W/2, D/2] in voxels of that grid, which is the first
        level's: where that halves no axis of thick slices, neither does this.
    """

    def __init__(
        self, encoder: nn.Module, channels: Sequence[int], strides: Sequence[Any], norm: str = "instance"
    ) -> None:
        super().__init__()
        self.encoder = encoder
        joined = [2 * c for c in channels]
        norm_ = (norm, {"affine": True}) if norm == "instance" else norm
        self.decoder = LightDecoder(3, 0, joined, [*strides, 1], widths=channels, norm=norm_, full_grid=False)
        nn.init.normal_(self.decoder.head.weight, std=1e-5)  # starts as the identity
        nn.init.zeros_(self.decoder.head.bias)

    def forward(self, moving: Tensor, fixed: Tensor) -> Tensor:
        pair = [torch.cat(both, dim=1) for both in zip(self.encoder(moving), self.encoder(fixed), strict=True)]
        return self.decoder(pair, fixed).float()

    def ddf(self, moving: Tensor, fixed: Tensor) -> Tensor:
        """Return the ddf [B, 3, H, W, D], voxels."""
        return integrate(self(moving, fixed), tuple(fixed.shape[2:]))
