"""What is deployed: a general and a medical light U-Net; the general one's mask prompts the medical one."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import torch
from monai.networks.nets import UNet
from torch import Tensor, nn

from .common.files.tensor_files import load_tensors
from .common.grid.network import GridNetwork
from .common.launch.words import truth
from .common.learning.light_unet import LightDecoder, LightEncoder, per_axis
from .common.learning.unet_parts import put_together, take_apart

BLOCKS = ("residual", "two_conv")


class DensePrompt(nn.Module):
    """Embed a soft mask on the grid of the deepest features, as SAM's mask prompt does in 2D.

    Strided 2x2x2 convolutions with GELU, then 1x1x1; without a mask a learned vector stands in ("no mask").
    forward: probabilities [B, K, H, W, D] -> [B, embed_dim, H/s, W/s, D/s]
    """

    def __init__(self, mask_channels: int, embed_dim: int, strides: Sequence[Any]) -> None:
        super().__init__()
        steps = [step for step in map(per_axis, strides) if max(step) > 1]
        layers: list[nn.Module] = []
        before = mask_channels
        for number, step in enumerate(steps):
            width = max(embed_dim // 2 ** (len(steps) - number), 8)
            layers += [nn.Conv3d(before, width, step, stride=step), nn.GroupNorm(1, width), nn.GELU()]
            before = width
        self.layers = nn.Sequential(*layers, nn.Conv3d(before, embed_dim, 1))
        self.no_mask = nn.Parameter(torch.zeros(1, embed_dim, 1, 1, 1))

    def forward(self, mask: Tensor) -> Tensor:
        return self.layers(mask)


def mask_prompt(logits: Tensor) -> Tensor:
    """Return the general model's soft mask, detached: the medical loss must not steer the general model."""
    return torch.softmax(logits.float(), dim=1).detach()


def residual_unet(
    in_channels: int, classes: int, channels: Sequence[int], strides: Sequence[Any], norm: str, dropout: float
) -> tuple[nn.Module, nn.Module]:
    """Return encoder and decoder of MONAI's UNet."""
    form: dict[str, Any] = {
        "channels": channels,
        "strides": strides,
        "num_res_units": 2,
        "norm": norm,
        "dropout": dropout,
    }
    return take_apart(UNet(3, in_channels, classes, **form))


def light_unet(
    in_channels: int, classes: int, channels: Sequence[int], strides: Sequence[Any], norm: str, dropout: float
) -> tuple[nn.Module, nn.Module]:
    """Return `LightEncoder` and `LightDecoder`."""
    norm_ = (norm, {"affine": True}) if norm == "instance" else norm
    form: dict[str, Any] = {"channels": channels, "strides": [*strides, 1], "norm": norm_, "dropout": dropout}
    return LightEncoder(in_channels, **form), LightDecoder(classes, in_channels, **form)


def read_blocks(path: str | None) -> str:
    """Return the blocks that a trained model.pt has; those of a new one where there is no such file."""
    if not path or not Path(path).expanduser().exists():
        return BLOCKS[0]
    return BLOCKS[any("general_encoder.levels.0.conv_0." in name for name in load_tensors(path))]


class RRLMedSAMNetwork(GridNetwork):
    """Segment a volume: the general model's soft mask is the prompt of the medical model (spec 2.5, 4.6).

    Holds no SAM, no registration and no teacher.

    Args:
        spatial_size, pixdim, label_values, strides, intensity_range: see `GridNetwork`; sizes are multiples of the
            product of strides, 1 or 2, one fewer than channels; None: 2 each.
        in_channels: C of the image.
        channels, norm, dropout: of both U-Nets.
        blocks: of both U-Nets. "residual": MONAI's UNet. "two_conv": `LightEncoder`, the form that the authors' script
            loads; where voxels are coarse it learns thin structures far later (docs/one_shot.md).
        prompt: False: the medical model works without the general one's mask.
        output: "mean" (of both models' probabilities), "medical" (the paper's) or "general".

    forward: image [B, C, H, W, D] in [0, 1] -> logits [B, K, H, W, D] (for "mean", log-probabilities).
    """

    __jit_unused_properties__ = ["body"]  # noqa: RUF012 (read by TorchScript)

    def __init__(
        self,
        spatial_size: Sequence[int],
        pixdim: Sequence[float],
        label_values: Sequence[int],
        in_channels: int = 1,
        channels: Sequence[int] = (16, 32, 64, 128),
        strides: Sequence[Any] | None = None,
        norm: str = "instance",
        dropout: float = 0.0,
        prompt: bool = True,
        output: str = "mean",
        blocks: str = "residual",
        intensity_range: Sequence[Sequence[float] | None] = (None,),
    ) -> None:
        if output not in ("mean", "medical", "general"):
            raise ValueError(f"output is {output!r}; wanted mean, medical or general")
        if blocks not in BLOCKS:
            raise ValueError(f"blocks is {blocks!r}; wanted {' or '.join(BLOCKS)}")
        steps = [per_axis(step) for step in strides or [2] * (len(channels) - 1)]
        if len(steps) != len(channels) - 1 or any(n not in (1, 2) for step in steps for n in step):
            raise ValueError(f"strides is {strides}; wanted 1 or 2 a step, one fewer than channels, {list(channels)}")
        factors = [prod(axis) for axis in zip(*steps, strict=True)]
        if any(n < 1 or n % factor for n, factor in zip(spatial_size, factors, strict=True)):
            raise ValueError(f"spatial_size is {list(spatial_size)}; wanted multiples of {factors}, at least these")
        super().__init__(spatial_size, pixdim, label_values, strides, intensity_range)
        self.factors = factors  # by which the deepest features are coarser
        self.prompt, self.output, self.blocks = truth("prompt", prompt), output, blocks
        build = residual_unet if blocks == "residual" else light_unet
        (self.general_encoder, self.general_decoder), (self.medical_encoder, self.medical_decoder) = (
            build(in_channels, self.classes, channels, steps, norm, dropout) for _ in range(2)
        )
        self.dense_prompt = DensePrompt(self.classes, channels[-1], steps)
        # averaging the weights of two unrelated networks destroys both: they start as one
        self.medical_encoder.load_state_dict(self.general_encoder.state_dict())

    @property
    def body(self) -> nn.Module | None:
        """The general model as the UNet that it is, by which a finer network may begin; None where it is none."""
        return put_together(self.general_encoder, self.general_decoder) if self.blocks == "residual" else None

    def forward_general(self, image: Tensor) -> Tensor:
        """Return the general model's logits [B, K, H, W, D]."""
        return self.general_decoder(self.general_encoder(image), image)

    def forward_medical(self, image: Tensor, mask: Tensor | None = None, keep: Tensor | None = None) -> Tensor:
        """Return the medical model's logits, prompted by a mask [B, K, H, W, D]; without one by the "no mask" vector.

        `keep` [B] is 1 where the mask prompts, 0 for "no mask"; left out, it prompts everywhere.
        """
        features = self.medical_encoder(image)
        deepest = features[-1]
        prompt = self.dense_prompt.no_mask
        if self.prompt and mask is not None:
            embedded = self.dense_prompt(mask)
            if keep is None:
                prompt = embedded
            else:
                share = keep.view(-1, 1, 1, 1, 1).to(deepest.dtype)
                prompt = share * embedded + (1 - share) * prompt
        features[-1] = deepest + prompt
        return self.medical_decoder(features, image)

    def forward(self, image: Tensor) -> Tensor:
        if self.output == "medical" and not self.prompt:
            return self.forward_medical(image)
        general = self.forward_general(image)
        if self.output == "general":
            return general
        medical = self.forward_medical(image, mask_prompt(general))
        if self.output == "medical":
            return medical
        mean = (torch.softmax(general.float(), dim=1) + torch.softmax(medical.float(), dim=1)) / 2
        return torch.log(mean.clamp_min(1e-7))
