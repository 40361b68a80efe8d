"""The light 3D encoder and its decoder: a U-Net in two parts, so that two methods can share or average either.

Blocks are `monai.networks.nets.basic_unet.TwoConv` and MONAI's `Convolution`; the form (four levels of two 3x3x3
convolutions, widths doubling) is the encoder that the authors' public Bi-JROS script loads for RRL-MedSAM.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution
from monai.networks.nets.basic_unet import TwoConv
from torch import Tensor, nn

ACTIVATION = ("LeakyReLU", {"negative_slope": 0.1, "inplace": True})


class LightEncoder(nn.Module):
    """Four (or any number of) levels of two convolutions; each level may halve the grid first.

    Args:
        in_channels: channels of the image.
        channels: width of each level.
        strides: 1 or 2 for each level; the first is 2 by default, since full resolution costs most and holds least.
        norm: MONAI norm name. "instance" keeps no running statistics, so averaging weights leaves nothing behind.
        dropout: probability after each convolution.

    forward: [B, in_channels, H, W, D] -> list of [B, channels[i], H/s, W/s, D/s], s the product of strides to level i.
    """

    def __init__(
        self,
        in_channels: int = 1,
        channels: Sequence[int] = (16, 32, 64, 128),
        strides: Sequence[int] = (2, 2, 2, 1),
        norm: str | tuple = ("instance", {"affine": True}),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if len(channels) != len(strides) or any(s not in (1, 2) for s in strides):
            raise ValueError(f"channels {channels} and strides {strides}: wanted one stride of 1 or 2 a level")
        levels = []
        for before, width, stride in zip((in_channels, *channels[:-1]), channels, strides, strict=True):
            two_convolutions = TwoConv(3, before, width, ACTIVATION, norm, True, dropout)
            if stride == 2:
                # a strided first convolution; MaxPool3d in front costs a full-resolution convolution more
                two_convolutions.conv_0.conv.stride = (2, 2, 2)
            levels.append(two_convolutions)
        self.levels = nn.ModuleList(levels)

    def forward(self, image: Tensor) -> list[Tensor]:
        features: list[Tensor] = []
        x = image
        for level in self.levels:
            x = level(x)
            features.append(x)
        return features


class LightDecoder(nn.Module):
    """Bring encoder features back to the full grid with skip connections.

    Args:
        out_channels: channels of the result (K logits, or 3 for a field).
        in_channels: channels of the image, joined again at full resolution; 0 to leave it out.
        channels, strides, norm, dropout: as in the encoder. For features of two images joined by channel, give the
            joined widths as `channels` and the single ones as `widths`.
        stop_stride: 1 for the full grid, 2 to stop at half of it.

    forward: (features, image or None) -> [B, out_channels, H/stop_stride, ...]
    """

    def __init__(
        self,
        out_channels: int,
        in_channels: int = 1,
        channels: Sequence[int] = (16, 32, 64, 128),
        strides: Sequence[int] = (2, 2, 2, 1),
        widths: Sequence[int] | None = None,
        norm: str | tuple = ("instance", {"affine": True}),
        dropout: float = 0.0,
        stop_stride: int = 1,
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
        self.full_resolution = strides[0] == 2 and stop_stride == 1
        width = max(below // 2, 8)
        self.last_up = upsample(below, width, 2) if self.full_resolution else nn.Identity()
        joined = (width if self.full_resolution else below) + (in_channels if stop_stride == 1 else 0)
        self.use_image = in_channels > 0 and stop_stride == 1
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


def upsample(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Return a transposed convolution that doubles the grid, or a 1x1x1 one where there is nothing to double."""
    kernel = 2 if stride == 2 else 1
    form = {"is_transposed": stride == 2, "padding": 0, "output_padding": 0, "conv_only": True}
    return Convolution(3, in_channels, out_channels, strides=stride, kernel_size=kernel, **form)


def parameter_count(module: nn.Module) -> int:
    """Return the number of parameters of a module."""
    return sum(p.numel() for p in module.parameters())
