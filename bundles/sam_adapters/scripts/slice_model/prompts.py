"""Networks that make a SAM's prompts, one for each structure, from the image or from its features."""

from __future__ import annotations

from math import log2
from typing import NamedTuple

import torch
from monai.networks.blocks import ResidualUnit
from torch import Tensor, nn
from torch.nn import functional as F

from ..common.errors import InputError
from ..common.imaging.prompts import bounding_boxes, confident_points
from ..common.learning.channel_norm import ChannelNorm
from ..common.sam.build import SamModel
from ..common.sam.patch_map import PatchMap

WAYS = ("box", "centre", "both")  # of `SelfPrompts`


class Prompts(NamedTuple):
    """Of N slices, P structures.

    sparse: [N, P, n, C] tokens of points and boxes. dense: [N, P, C, h, w], added to the features.
    asked: bool [N, P], which structures are asked about. first, patches: see `Answer`.
    """

    sparse: Tensor
    dense: Tensor
    asked: Tensor
    first: Tensor | None = None
    patches: Tensor | None = None


class DensePrompts(nn.Module):
    """A network on the image that makes each structure's dense prompt (AutoSAM, Shaharabany et al. 2023).

    It is MONAI's `ResidualUnit`, step by step to the encoder's grid, where AutoSAM has a HarDNet-85. What it makes is
    added to SAM's embedding for "no mask", and is 0 at first.

    forward: square [N, 3, S, S] as the encoder sees it, features [N, C, h, w] -> `Prompts`.
    """

    def __init__(self, sam: SamModel, structures: int, width: int = 16) -> None:
        super().__init__()
        embedding = sam.prompt_encoder.no_mask_embed.weight
        self.structures, self.channels = structures, embedding.shape[1]
        steps, inputs, layers = int(log2(sam.stride)), 3, []
        for number in range(steps):
            outputs = width * 2 ** min(number, 3)
            layers.append(ResidualUnit(2, inputs, outputs, strides=2))
            inputs = outputs
        self.body = nn.Sequential(*layers)
        self.head = nn.Conv2d(inputs, structures * self.channels, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("no_mask", embedding.detach().clone().view(1, 1, -1, 1, 1))

    def forward(self, square: Tensor, features: Tensor) -> Prompts:
        made = torch.tanh(self.head(self.body(square))).unflatten(1, (self.structures, self.channels))
        sparse = features.new_zeros((*made.shape[:2], 0, self.channels))
        return Prompts(sparse, self.no_mask + made, _all(made))


class PatchMapPrompts(PatchMap):
    """A `PatchMap` of each structure as its dense prompt.

    forward: see `DensePrompts`; the image isn't looked at.
    """

    def forward(self, square: Tensor, features: Tensor) -> Prompts:
        patches = self.patches(features)
        dense = self.prompt(patches.detach() > 0, features.shape[2:])
        sparse = features.new_zeros((*patches.shape[:2], 0, self.channels))
        return Prompts(sparse, dense, _all(patches), patches=patches)


class SelfPrompts(nn.Module):
    """A head on the features whose masks give boxes and centres (Self-Prompt-SAM, Xie et al. 2025).

    A centre is the deepest pixel by the distance transform. A structure that the head doesn't see isn't asked about.

    Args:
        way: "box", "centre" or "both"; a SAM that takes no points gets boxes.

    forward: see `DensePrompts`; the image isn't looked at. `first` is what the head says.
    """

    def __init__(self, sam: SamModel, structures: int, way: str = "both", width: int = 64) -> None:
        super().__init__()
        if way not in WAYS:
            raise InputError(f"self_prompt is {way!r}; wanted one of {', '.join(WAYS)}")
        channels = sam.prompt_encoder.no_mask_embed.weight.shape[1]
        self._prompt_encoder = [sam.prompt_encoder]  # frozen; in a list it is no part of this module
        self.way = way if sam.prompts.points else "box"
        self.side = sam.preprocessing.image_size
        self.head = nn.Sequential(
            nn.Conv2d(channels, width, 1),
            nn.ConvTranspose2d(width, width // 2, 2, 2), ChannelNorm(width // 2), nn.GELU(),
            nn.ConvTranspose2d(width // 2, width // 2, 2, 2), nn.GELU(),
            nn.Conv2d(width // 2, structures + 1, 1),
        )  # fmt: skip

    def forward(self, square: Tensor, features: Tensor) -> Prompts:
        first = self.head(features)  # [N, K, 4h, 4w]
        structures = first.shape[1] - 1
        found = F.one_hot(first.detach().argmax(1), structures + 1).movedim(-1, 1)[:, 1:].bool()  # [N, P, 4h, 4w]
        asked = found.flatten(2).any(2)
        masks = found[asked].cpu()
        sparse, dense = self._embed(masks, features)
        count = sparse.shape[1]
        all_sparse = features.new_zeros((*asked.shape, count, sparse.shape[2]))
        all_dense = features.new_zeros((*asked.shape, *dense.shape[1:]))
        all_sparse[asked], all_dense[asked] = sparse.to(features), dense.to(features)
        return Prompts(all_sparse, all_dense, asked, first=first)

    @torch.no_grad()
    def _embed(self, masks: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return sparse [M, n, C] and dense [M, C, h, w] of masks [M, 4h, 4w]."""
        encoder = self._prompt_encoder[0]
        scale = self.side / (4 * features.shape[2])  # encoder's pixels to one of a mask
        boxes = points = None
        if self.way != "centre":
            boxes = (bounding_boxes(masks) * scale)[:, [1, 0, 3, 2]].to(features.device) - 0.5
        if self.way != "box":
            deepest = [confident_points(mask.float(), 1) for mask in masks]
            centres = torch.stack(deepest) if deepest else masks.new_zeros((0, 1, 2), dtype=torch.float32)
            centres = (centres * scale).flip(-1).to(features.device) - 0.5
            points = (centres, torch.ones(centres.shape[:2], device=features.device))
        return encoder(points, boxes, None)


GENERATORS = {"dense": DensePrompts, "patch_map": PatchMapPrompts, "self": SelfPrompts}


def _all(of: Tensor) -> Tensor:
    return torch.ones(of.shape[:2], dtype=torch.bool, device=of.device)
