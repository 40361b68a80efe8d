"""The prompt encoder of SAM-Med3D, under the parameter names of its checkpoints."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...errors import InputError
from .encoder import ChannelNorm3d


class PositionEncoding3d(nn.Module):
    """Random Fourier code of points in [0, 1]^3: [..., 3] -> [..., channels] as sine, cosine, and the sine again."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        # drawn once for the training, and part of the checkpoint
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(3, channels // 3))

    def forward(self, points: Tensor) -> Tensor:
        angle = 2 * math.pi * ((2 * points - 1) @ self.positional_encoding_gaussian_matrix)
        sine = angle.sin()
        return torch.cat((sine, angle.cos(), sine), -1)


class PromptEncoder3d(nn.Module):
    """Points and masks to the tokens of the mask decoder.

    Computes what the public repository uni-medical/SAM-Med3D computes. Its position code of the tokens has the first
    two axes swapped against that of the points (see `get_dense_pe`); the public weights were trained so.

    Args:
        channels: width of the tokens, a multiple of 3.
        grid: tokens a side.
        image_size: voxels a side.
    """

    def __init__(self, channels: int, grid: int, image_size: int) -> None:
        super().__init__()
        self.grid = grid
        self.image_size = image_size
        self.pe_layer = PositionEncoding3d(channels)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, channels) for _ in range(2))
        self.not_a_point_embed = nn.Embedding(1, channels)
        self.mask_downscaling = nn.Sequential(
            nn.Conv3d(1, 4, 2, 2),
            ChannelNorm3d(4),
            nn.GELU(),
            nn.Conv3d(4, 16, 2, 2),
            ChannelNorm3d(16),
            nn.GELU(),
            nn.Conv3d(16, channels, 1),
        )
        self.no_mask_embed = nn.Embedding(1, channels)

    def get_dense_pe(self) -> Tensor:
        """Return the position code of the tokens, [1, C, n, n, n]; that at (a, b, c) is of the centre of (b, a, c)."""
        centre = (torch.arange(self.grid, device=self.no_mask_embed.weight.device) + 0.5) / self.grid
        first, second, third = torch.meshgrid(centre, centre, centre, indexing="ij")
        points = torch.stack((second, first, third), -1).to(self.no_mask_embed.weight.dtype)
        return self.pe_layer(points).movedim(-1, 0)[None]

    def forward(
        self, points: tuple[Tensor, Tensor] | None, boxes: None = None, masks: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Encode prompts.

        Args:
            points: coordinates [B, N, 3], voxels in array order (the centre of voxel 0 is 0), and labels [B, N]:
                1 foreground, 0 background, -1 for a slot that holds no point. One such slot is always appended.
            boxes: None; SAM-Med3D knows no boxes.
            masks: logits [B, 1, 4n, 4n, 4n]; None takes the learnt code of no mask.

        Returns:
            Sparse tokens [B, N + 1, C] ([B, 0, C] without points) and dense tokens [B, C, n, n, n].

        Raises:
            InputError: boxes are given.
        """
        if boxes is not None:
            raise InputError("SAM-Med3D: found boxes, wanted points or a mask; it was never trained on boxes")
        given = points[0] if points is not None else masks
        batch = 1 if given is None else given.shape[0]
        weight = self.no_mask_embed.weight
        if masks is None:
            dense = weight[..., None, None, None].expand(batch, -1, self.grid, self.grid, self.grid)
        else:
            dense = self.mask_downscaling(masks)
        sparse = weight.new_zeros(batch, 0, weight.shape[1]) if points is None else self._embed_points(*points)
        return sparse, dense

    def _embed_points(self, coords: Tensor, labels: Tensor) -> Tensor:
        weight = self.no_mask_embed.weight
        coords = nn.functional.pad(coords.to(weight), (0, 0, 0, 1))
        labels = nn.functional.pad(labels.to(weight.device), (0, 1), value=-1)[..., None]
        code = self.pe_layer((coords + 0.5) / self.image_size)
        background, foreground = (embedding.weight for embedding in self.point_embeddings)
        code = torch.where(labels == 0, code + background, code)
        code = torch.where(labels == 1, code + foreground, code)
        return torch.where(labels == -1, self.not_a_point_embed.weight, code)
