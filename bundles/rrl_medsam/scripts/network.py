"""What is deployed: a general and a medical light U-Net; the general one's mask prompts the medical one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .common.grid.network import GridNetwork
from .common.launch.words import truth
from .common.learning.light_unet import LightDecoder, LightEncoder


class DensePrompt(nn.Module):
    """Embed a soft mask on the grid of the deepest features, as SAM's mask prompt does in 2D.

    Strided 2x2x2 convolutions with GELU, then 1x1x1; without a mask a learned vector stands in ("no mask").
    forward: probabilities [B, K, H, W, D] -> [B, embed_dim, H/s, W/s, D/s]
    """

    def __init__(self, mask_channels: int, embed_dim: int, strides: Sequence[int]) -> None:
        super().__init__()
        steps = sum(1 for s in strides if s == 2)
        layers: list[nn.Module] = []
        before = mask_channels
        for step in range(steps):
            width = max(embed_dim // 2 ** (steps - step), 8)
            layers += [nn.Conv3d(before, width, 2, stride=2), nn.GroupNorm(1, width), nn.GELU()]
            before = width
        self.layers = nn.Sequential(*layers, nn.Conv3d(before, embed_dim, 1))
        self.no_mask = nn.Parameter(torch.zeros(1, embed_dim, 1, 1, 1))

    def forward(self, mask: Tensor) -> Tensor:
        return self.layers(mask)


def mask_prompt(logits: Tensor) -> Tensor:
    """Return the general model's soft mask, detached: the medical loss must not steer the general model."""
    return torch.softmax(logits.float(), dim=1).detach()


class RRLMedSAMNetwork(GridNetwork):
    """Segment a volume: the general model's soft mask is the prompt of the medical model (spec 2.5, 4.6).

    Holds no SAM, no registration and no teacher.

    Args:
        spatial_size, pixdim, label_values, intensity_range: see `GridNetwork`; sizes are multiples of the product of
            strides.
        in_channels: C of the image.
        channels, strides, norm, dropout: of both U-Nets; see `LightEncoder`.
        prompt: False: the medical model works without the general one's mask.
        output: "mean" (of both models' probabilities), "medical" (the paper's) or "general".

    forward: image [B, C, H, W, D] in [0, 1] -> logits [B, K, H, W, D] (for "mean", log-probabilities).
    """

    def __init__(
        self,
        spatial_size: Sequence[int],
        pixdim: Sequence[float],
        label_values: Sequence[int],
        in_channels: int = 1,
        channels: Sequence[int] = (16, 32, 64, 128),
        strides: Sequence[int] = (2, 2, 2, 1),
        norm: str = "instance",
        dropout: float = 0.0,
        prompt: bool = True,
        output: str = "mean",
        intensity_range: Sequence[Sequence[float] | None] = (None,),
    ) -> None:
        if output not in ("mean", "medical", "general"):
            raise ValueError(f"output is {output!r}; wanted mean, medical or general")
        stride = 2 ** sum(1 for s in strides if s == 2)
        if any(n < 1 or n % stride for n in spatial_size):
            raise ValueError(f"spatial_size is {list(spatial_size)}; wanted multiples of {stride}, at least {stride}")
        super().__init__(spatial_size, pixdim, label_values, intensity_range=intensity_range)
        self.stride, self.prompt, self.output = stride, truth("prompt", prompt), output
        norm_ = (norm, {"affine": True}) if norm == "instance" else norm
        body: dict[str, Any] = {"channels": channels, "strides": strides, "norm": norm_, "dropout": dropout}
        classes = self.classes
        self.general_encoder = LightEncoder(in_channels, **body)
        self.general_decoder = LightDecoder(classes, in_channels, **body)
        self.medical_encoder = LightEncoder(in_channels, **body)
        self.medical_decoder = LightDecoder(classes, in_channels, **body)
        self.dense_prompt = DensePrompt(classes, channels[-1], strides)
        # averaging the weights of two unrelated networks destroys both: they start as one
        self.medical_encoder.load_state_dict(self.general_encoder.state_dict())

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
