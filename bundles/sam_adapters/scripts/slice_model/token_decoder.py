"""SAM's mask decoder with a token for each class in the place of prompts."""

from __future__ import annotations

import copy
from math import log2

import torch
from torch import Tensor, nn

from ..common.errors import InputError
from ..common.learning.channel_norm import ChannelNorm
from ..common.sam.build import SamModel
from ..common.sam.members.segment_anything_import import load_segment_anything
from .answer import Answer


class TokenDecoder(nn.Module):
    """Two-way transformer, upscaling and kernels of a SAM, asked by K learnt tokens; all of it learns.

    Each token and each kernel begins as those of SAM's single mask, the tokens a little apart.

    Args:
        sam: has the mask decoder of `segment_anything`.
        classes: K, background included.
        full: two more steps up, to the encoder's own pixels (MA-SAM's decoder); none where SAM's is there already.

    forward: features [N, C, h, w], position code [1, C, h, w], detail [N, C / 8, 4h, 4w] that is added on the way up,
        or None, prompts [N, n, C] that stand beside the classes' tokens, or None -> `Answer`.

    Raises:
        InputError: a SAM with a decoder of another kind.
    """

    def __init__(self, sam: SamModel, classes: int, full: bool = False) -> None:
        super().__init__()
        source = sam.mask_decoder
        if not isinstance(source, load_segment_anything().MaskDecoder):
            raise InputError(f"{sam.name}: its mask decoder is {type(source).__name__}; wanted one of segment_anything")
        self.transformer, self.upscaling = copy.deepcopy((source.transformer, source.output_upscaling))
        first = source.mask_tokens.weight[:1].detach()
        # a little apart, so that the transformer may tell classes from the first step on
        self.tokens = nn.Parameter(first + 0.1 * first.std() * torch.randn(classes, first.shape[1]))
        self.quality_token = nn.Parameter(source.iou_token.weight.detach().clone())
        kernels = source.output_hypernetworks_mlps[0]
        self.kernels = nn.ModuleList(copy.deepcopy(kernels) for _ in range(classes))
        self.register_buffer("no_mask", sam.prompt_encoder.no_mask_embed.weight.detach().clone()[..., None, None])
        width = first.shape[1] // 8
        further = int(log2(sam.stride)) - 2 if full else 0
        self.further = nn.Sequential(*further_steps(width, further))
        # SAM's kernels are too large for pixels that it never saw: their products would soon be saturated, and stay so
        self.narrow = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width // 2)) for _ in range(classes if further else 0)
        )
        self.requires_grad_(True)

    def attend(self, features: Tensor, position: Tensor, prompts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return what the tokens [N, K, C] and the image [N, C, h, w] are after the transformer."""
        count = len(features)
        asked = torch.cat([self.quality_token, self.tokens]).expand(count, -1, -1)
        if prompts is not None:
            asked = torch.cat([asked, prompts], dim=1)
        tokens, image = self.transformer(features + self.no_mask, position.expand(count, -1, -1, -1), asked)
        return tokens[:, 1 : 1 + len(self.tokens)], image.transpose(1, 2).reshape(features.shape)

    def kernel(self, tokens: Tensor) -> Tensor:
        """Return the kernel of each class, [N, K, C / 8]."""
        return torch.stack([kernel(tokens[:, index]) for index, kernel in enumerate(self.kernels)], dim=1)

    def forward(
        self, features: Tensor, position: Tensor, detail: Tensor | None = None, prompts: Tensor | None = None
    ) -> Answer:
        tokens, image = self.attend(features, position, prompts)
        upscaled = self.upscaling(image)  # [N, C / 8, 4h, 4w]
        if detail is not None:
            upscaled = upscaled + detail
        kernels = self.kernel(tokens)
        if len(self.narrow):
            kernels = torch.stack([narrow(kernels[:, index]) for index, narrow in enumerate(self.narrow)], dim=1)
            kernels = kernels / kernels.shape[-1] ** 0.5
        return Answer(by_kernels(kernels, self.further(upscaled)))


def further_steps(width: int, count: int) -> list[nn.Module]:
    """Return the layers of so many steps up, each to twice the pixels; the first one halves the width."""
    layers: list[nn.Module] = []
    for number in range(count):
        inputs = width if number == 0 else width // 2
        step = nn.ConvTranspose2d(inputs, width // 2, 2, 2)
        # the four pixels that one becomes begin alike: drawn apart they are a pattern, which has to be unlearnt
        step.weight.data.copy_(step.weight.data[..., :1, :1].expand_as(step.weight))
        layers += [step, ChannelNorm(width // 2), nn.GELU()]
    return layers


def by_kernels(kernels: Tensor, pixels: Tensor) -> Tensor:
    """Return logits [N, K, m, m]: the product of each class's kernel [N, K, c] with each pixel [N, c, m, m]."""
    return torch.einsum("nkc,nchw->nkhw", kernels, pixels)
