"""A second decoder that is guided by the masks of the first one (H-SAM, Cheng et al. 2024)."""

from __future__ import annotations

from math import log2

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..common.learning.channel_norm import ChannelNorm
from ..common.sam.build import SamModel
from .answer import Answer
from .token_decoder import TokenDecoder, by_kernels, further_steps

LEAST = 1e-4  # of a mask's probability: what the first stage has missed may still be looked at
NOISE = 0.2  # of the kernels' range, in training


class MaskGuidedAttention(nn.Module):
    """Where the classes' maps, seen together, say that something is: a share of [0, 1] that features are raised by.

    In training the map of a class is disturbed the more, the rarer the class is, so that frequent ones don't drown it.

    forward: maps [N, K, h, w] -> [N, 1, h, w], summing to 1 over the places.
    """

    def __init__(self, classes: int, places: int, heads: int = 8) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(places) for _ in range(3))
        self.attentions = nn.ModuleList(
            nn.MultiheadAttention(places, heads, dropout=0.1, batch_first=True) for _ in range(2)
        )
        self.mlp = nn.Sequential(nn.Linear(places, 2 * places), nn.GELU(), nn.Linear(2 * places, places))
        self.join = nn.Linear(classes, 1)
        self.register_buffer("rarity", torch.ones(classes))

    def forward(self, maps: Tensor) -> Tensor:
        x = maps.flatten(2)  # [N, K, h w]: a class is a token, its places are the channels
        if self.training:
            x = x + torch.randn_like(x) * x.detach().std() * self.rarity[:, None]
        for norm, attention in zip(self.norms, self.attentions, strict=False):
            seen = norm(x)
            x = x + attention(seen, seen, seen, need_weights=False)[0]
        x = x + self.mlp(self.norms[-1](x))
        joined = F.relu(self.join(x.transpose(1, 2)))[..., 0]  # [N, h w]
        return joined.softmax(1).view(len(maps), 1, *maps.shape[2:])


class MaskedAttention(nn.Module):
    """Tokens of classes that look at the image where the first stage has seen their class, and the image at them.

    The weights of a token are multiplied by its class's probability, which is a sum of logarithms before the softmax.

    forward: tokens [N, K, C], image [N, h w, C], position [1, h w, C], mask [N, K, h w] in [0, 1] -> tokens, image.
    """

    def __init__(self, channels: int, heads: int = 8) -> None:
        super().__init__()
        self.heads = heads
        self.own, self.looking, self.answering = (
            nn.MultiheadAttention(channels, heads, batch_first=True) for _ in range(3)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(4))
        self.mlp = nn.Sequential(nn.Linear(channels, 4 * channels), nn.ReLU(), nn.Linear(4 * channels, channels))

    def forward(self, tokens: Tensor, image: Tensor, position: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.norms[0](tokens + self.own(tokens, tokens, tokens, need_weights=False)[0])
        guide = mask.clamp_min(LEAST).log().repeat_interleave(self.heads, dim=0)  # [N heads, K, h w]
        seen = self.looking(tokens, image + position, image, attn_mask=guide, need_weights=False)[0]
        tokens = self.norms[1](tokens + seen)
        tokens = self.norms[2](tokens + self.mlp(tokens))
        answered = self.answering(image + position, tokens, tokens, need_weights=False)[0]
        return tokens, self.norms[3](image + answered)


class HierarchicalDecoder(nn.Module):
    """`TokenDecoder`, then a second stage that its masks guide, at the encoder's own pixels.

    Features are raised where all classes' maps together say that something is, tokens look at the image where the
    first stage has seen their class, and a pixel decoder with the first one's features as a skip goes on to full
    resolution.

    Args:
        sam, classes: see `TokenDecoder`.

    forward: see `TokenDecoder`; the answer's `first` is the first stage's.
    """

    def __init__(self, sam: SamModel, classes: int) -> None:
        super().__init__()
        self.stage = TokenDecoder(sam, classes)
        channels = self.stage.tokens.shape[1]
        side = sam.preprocessing.image_size // sam.stride
        self.guide = MaskGuidedAttention(classes, side * side)
        self.attention = MaskedAttention(channels)
        middle, narrow = channels // 4, channels // 8
        self.upscaling = nn.Sequential(
            nn.ConvTranspose2d(channels, middle, 2, 2), ChannelNorm(middle), nn.GELU(),
            nn.ConvTranspose2d(middle, narrow, 2, 2), nn.GELU(),
        )  # fmt: skip
        self.further = nn.Sequential(*further_steps(narrow, int(log2(sam.stride)) - 2))
        width = narrow // 2 if len(self.further) else narrow
        self.kernels = nn.ModuleList(_five_layers(channels, width) for _ in range(classes))

    def note_rarity(self, voxels: Tensor) -> None:
        """Note how rare the classes are by how many voxels [K] they have: 1 for the rarest, less for the others."""
        share = voxels.clamp_min(1).float()
        self.guide.rarity.copy_((share.min() / share).to(self.guide.rarity) ** 0.5)

    def forward(self, features: Tensor, position: Tensor, detail: Tensor | None = None) -> Answer:
        tokens, image = self.stage.attend(features, position)
        skip = self.stage.upscaling(image)
        if detail is not None:
            skip = skip + detail
        first = by_kernels(self.stage.kernel(tokens), skip)  # [N, K, 4h, 4w]
        size = image.shape[2:]
        maps = torch.einsum("nkc,nchw->nkhw", tokens, image) / tokens.shape[-1] ** 0.5
        raised = image * (1 + self.guide(maps))
        mask = F.interpolate(first.detach().softmax(1), size, mode="bilinear", antialias=True)
        flat, places = (x.flatten(2).transpose(1, 2) for x in (raised, position))
        tokens, flat = self.attention(tokens, flat, places, mask.flatten(2))
        pixels = self.further(self.upscaling(flat.transpose(1, 2).reshape(image.shape)) + skip)
        kernels = torch.stack([kernel(tokens[:, index]) for index, kernel in enumerate(self.kernels)], dim=1)
        if self.training:
            reach = (kernels.amax() - kernels.amin()).detach()
            kernels = kernels + NOISE * reach * torch.randn_like(kernels)
        return Answer(by_kernels(kernels, pixels), first)


def _five_layers(channels: int, outputs: int) -> nn.Sequential:
    hidden = [layer for _ in range(4) for layer in (nn.Linear(channels, channels), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(channels, outputs))
