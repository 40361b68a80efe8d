"""Any of MONAI's segmentation networks, with the grid that it was trained for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class GridNetwork(nn.Module):
    """Segment a volume with `body`; the grid that a model was trained for travels with it.

    Its buffers (`spatial_size`, `pixdim` in mm, `label_values`) make model.pt alone enough to serve it.

    Args:
        body: image [B, 1, H, W, D] -> [B, C, H, W, D] with C >= K, or, under deep supervision, several of these, the
            finest first: a list, or a tensor [B, n, C, H, W, D]. Channels beyond K belong to a method and are left out
            of the answer.
        spatial_size: voxels along the RAS axes.
        pixdim: spacing of that grid, mm.
        label_values: value in a label map of each class, background first; K = len(label_values).

    forward: image [B, 1, H, W, D] in [0, 1] -> logits [B, K, H, W, D].

    Raises:
        ValueError: a size or spacing not above 0, or fewer than two classes.
    """

    def __init__(
        self, body: nn.Module, spatial_size: Sequence[int], pixdim: Sequence[float], label_values: Sequence[int]
    ) -> None:
        super().__init__()
        if any(n < 1 for n in spatial_size):
            raise ValueError(f"spatial_size is {list(spatial_size)}; wanted voxels above 0")
        if any(p <= 0 for p in pixdim):
            raise ValueError(f"pixdim is {list(pixdim)}; wanted millimetres above 0")
        if len(label_values) < 2:
            raise ValueError(f"label_values is {list(label_values)}; wanted the background and at least one more")
        self.body = body
        self.classes = len(label_values)
        self.register_buffer("spatial_size", torch.tensor([float(n) for n in spatial_size]))
        self.register_buffer("pixdim", torch.tensor([float(p) for p in pixdim]))
        self.register_buffer("label_values", torch.tensor([float(v) for v in label_values]))

    def forward(self, image: Tensor) -> Tensor:
        return self.forward_all(image)[:, : self.classes]

    def forward_all(self, image: Tensor) -> Tensor:
        """Return all channels of the finest map [B, C, H, W, D]."""
        output = self.body(image)
        if isinstance(output, (list, tuple)):
            output = output[0]
        if output.dim() == 6:  # DynUNet stacks its maps while it trains
            output = output[:, 0]
        return output

    @torch.jit.unused
    def forward_levels(self, image: Tensor) -> list[Tensor]:
        """Return the maps of deep supervision with all channels, the finest first; one map where there is none."""
        output = self.body(image)
        if isinstance(output, (list, tuple)):
            return list(output)
        return list(output.unbind(1)) if output.dim() == 6 else [output]
