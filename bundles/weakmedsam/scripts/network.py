"""What is deployed: any of MONAI's segmentation networks, 3D, or 2D through the slices of a volume."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .common.grid.network import BodyNetwork


class Segmenter(BodyNetwork):
    """Segment a volume with `body`; holds no SAM, no classifier and needs no presence bits."""


class SliceBySlice(nn.Module):
    """A 2D network as the body of a `Segmenter`: it sees one slice after the other (the paper's stage 4).

    The slicing axis is a buffer, so that model.pt says it and inference needs no setting for it.

    Args:
        network: [N, 1, h, w] -> [N, C, h, w].
        slice_axis: 0, 1 or 2 of the RAS grid.

    forward: image [B, 1, H, W, D] -> [B, C, H, W, D].

    Raises:
        ValueError: another axis.
    """

    def __init__(self, network: nn.Module, slice_axis: int = 2) -> None:
        super().__init__()
        if slice_axis not in (0, 1, 2):
            raise ValueError(f"slice_axis is {slice_axis}; wanted 0, 1 or 2")
        self.network = network
        self.register_buffer("slice_axis", torch.tensor(float(slice_axis)))

    def forward(self, image: Tensor) -> Tensor:
        axis = int(self.slice_axis.item()) + 2
        planes = image.movedim(axis, 1)  # [B, n, 1, h, w]
        batch, depth = planes.shape[0], planes.shape[1]
        output = self.network(planes.flatten(0, 1))  # [B * n, C, h, w]
        return output.unflatten(0, [batch, depth]).movedim(1, axis)
