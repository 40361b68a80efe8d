"""The light 3D encoder and its decoder: a U-Net in two parts, so that two methods can share or average either.

Blocks are `monai.networks.nets.basic_unet.TwoConv` and MONAI's `Convolution`; the form (four levels of two 3x3x3
convolutions, widths doubling) is the encoder that the authors' public Bi-JROS script loads for RRL-MedSAM.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.blocks import Convolution
from monai.networks.nets.basic_unet import TwoConv
from torch import Tensor, nn

from .unet_parts import UNetEncoder

ACTIVATION = ("LeakyReLU", {"negative_slope": 0.1, "inplace": True})


class LightEncoder(UNetEncoder):
    """Four (or any number of) levels of two convolutions; each level may halve the grid first.

    Args:
        in_channels: channels of the image.
        channels: width of each level.
        strides: for each level 1 or 2, or one of these for each axis; the first is 2 by default, since full resolution
            costs most and holds least.
        norm: MONAI norm name. "instance" keeps no running statistics, so averaging weights leaves nothing behind.
        dropout: probability after each convolution.

    forward: [B, in_channels, H, W, D] -> list of [B, channels[i], H/s, W/s, D/s], s the product of strides to level i.
    """

    def __init__(
        self,
        in_channels: int = 1,
        channels: Sequence[int] = (16, 32, 64, 128),
        strides: Sequence[Any] = (2, 2, 2, 1),
        norm: str | tuple = ("instance", {"affine": True}),
        dropout: float = 0.0,
    ) -> None:
        steps = [per_axis(stride) for stride in strides]
        if len(channels) != len(steps) or any(n not in (1, 2) for step in steps for n in step):
            raise ValueError(f"channels {channels} and strides {strides}: wanted one stride of 1 or 2 a level")
        levels: list[nn.Module] = []
        for before, width, step in zip((in_channels, *channels[:-1]), channels, steps, strict=True):
            two_convolutions = TwoConv(3, before, width, ACTIVATION, norm, True, dropout)
            # a strided first convolution; MaxPool3d in front costs a full-resolution convolution more
            two_convolutions.conv_0.conv.stride = step
            levels.append(two_convolutions)
        super().__init__(levels)


class LightDecoder(nn.Module):
    """Bring encoder features back to the full grid with skip connections.

    Args:
        out_channels: channels of the result (K logits, or 3 for a field).
        in_channels: channels of the image, joined again at full resolution; 0 to leave it out.
        channels, strides, norm, dropout: as in the encoder. For features of two images joined by channel, give the
            joined widths as `channels` and the single ones as `widths`.
        full_grid: False to stop at the first level's grid.

    forward: (features, image or None) -> [B, out_channels, H, W, D], or of the first level's grid
    """

    def __init__(
        self,
        out_channels: int,
        in_channels: int = 1,
        channels: Sequence[int] = (16, 32, 64, 128),
        strides: Sequence[Any] = (2, 2, 2, 1),
        widths: Sequence[int] | None = None,
        norm: str | tuple = ("instance", {"affine": True}),
        dropout: float = 0.0,
        full_grid: bool = True,
    ) -> None:
        super().__init__()
        widths = list(widths or channels)
        up, join = [], []
        below = channels[-1]
        for level in range(len(channels) - 2, -1, -1):
            half = widths[level + 1] // 2
            up.append(upsample(below, half, strides[level + 1]))
            join.append(TwoConv(3, half + channels[level], widths[level], ACTIVATION, norm, True, dropout))
            below = widths[level]
        self.up, self.join = nn.ModuleList(up), nn.ModuleList(join)
        self.full_resolution = max(per_axis(strides[0])) > 1 and full_grid
        width = max(below // 2, 8)
        self.last_up = upsample(below, width, strides[0]) if self.full_resolution else nn.Identity()
        joined = (width if self.full_resolution else below) + (in_channels if full_grid else 0)
        self.use_image = in_channels > 0 and full_grid
        # at full resolution a 3x3x3 convolution of few channels alone would cost a third of a training step
        kernel = 1 if self.full_resolution else 3
        self.head = nn.Conv3d(joined, out_channels, kernel, padding=kernel // 2)

    def forward(self, features: list[Tensor], image: Tensor) -> Tensor:
        x = features[-1]
        level = len(features) - 2
        for up, join in zip(self.up, self.join):  # noqa: B905 (TorchScript has no strict=)
            x = join(torch.cat([features[level], up(x)], dim=1))
            level -= 1
        x = self.last_up(x)
        if self.use_image:
            x = torch.cat([x, image.to(x.dtype)], dim=1)
        return self.head(x)


def per_axis(stride: Any) -> tuple[int, int, int]:
    """Return a stride with one number an axis."""
    x, y, z = (stride, stride, stride) if isinstance(stride, int) else stride
    return int(x), int(y), int(z)


def upsample(in_channels: int, out_channels: int, stride: Any) -> nn.Module:
    """Return a transposed convolution that undoes a stride, or a 1x1x1 one where there is nothing to undo."""
    step = per_axis(stride)
    form = {"is_transposed": max(step) > 1, "padding": 0, "output_padding": 0, "conv_only": True}
    return Convolution(3, in_channels, out_channels, strides=step, kernel_size=step, **form)


def parameter_count(module: nn.Module) -> int:
    """Return the number of parameters of a module."""
    return sum(p.numel() for p in module.parameters())
