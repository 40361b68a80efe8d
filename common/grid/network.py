"""Networks that carry the grid they were trained for, and any of MONAI's segmentation networks as one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .grid import PERCENTILES, Grid, make_ranges


class GridNetwork(nn.Module):
    """Base of whatever is deployed: the grid travels as buffers, so that model.pt alone is enough to serve it.

    Args:
        spatial_size, pixdim, label_values, strides: see `Grid`; K = len(label_values). Strides that are no list an axis
            are not kept: a model.pt of before there were such has none.
        intensity_range: see `Grid`; kept as [C, 2], 0 and 0 where a channel has percentiles of each scan. A model of
            one channel with these doesn't keep it: nor does a model.pt of before there were ranges.

    Attributes:
        channels: C of the image.
        window: voxels that the network sees at once.
        one_piece: [K], 1 for each class of which only the largest piece is kept, where a second level has learnt that
            from labels (`know_pieces`); no part of other states.

    Raises:
        ValueError: see `Grid`.
    """

    def __init__(
        self,
        spatial_size: Sequence[int],
        pixdim: Sequence[float],
        label_values: Sequence[int],
        strides: Sequence[Any] | None = None,
        intensity_range: Sequence[Sequence[float] | None] = (None,),
    ) -> None:
        super().__init__()
        intensity_range = make_ranges(intensity_range)
        Grid(
            tuple(spatial_size), tuple(pixdim), tuple(label_values), intensity_range=intensity_range
        )  # refuses what is no grid
        self.classes, self.channels = len(label_values), len(intensity_range)
        self.window = [int(n) for n in spatial_size]
        if strides is not None and all(isinstance(step, Sequence) for step in strides):
            self.register_buffer("strides", torch.tensor([[float(n) for n in step] for step in strides]))
        if any(pair is not None for pair in intensity_range) or len(intensity_range) > 1:
            ranges = [PERCENTILES if pair is None else pair for pair in intensity_range]
            self.register_buffer("intensity_range", torch.tensor([[float(v) for v in pair] for pair in ranges]))
        self.register_buffer("spatial_size", torch.tensor([float(n) for n in spatial_size]))
        self.register_buffer("pixdim", torch.tensor([float(p) for p in pixdim]))
        self.register_buffer("label_values", torch.tensor([float(v) for v in label_values]))

    def know_pieces(self, one_piece: Sequence[bool]) -> None:
        """Keep which classes are one piece, as a part of the state."""
        self.register_buffer("one_piece", self.label_values.new_tensor([float(one) for one in one_piece]))

    def expect(self, tensors: Mapping[str, Tensor], prefix: str) -> None:
        """Make room for what the state of a trained model holds besides: `one_piece`.

        Args:
            tensors: by their names; a network that is part of another has its own under a prefix.
        """
        if f"{prefix}one_piece" in tensors:
            self.know_pieces([False] * self.classes)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        self.expect(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)


class BodyNetwork(GridNetwork):
    """Segment a volume with `body`.

    Args:
        body: image [B, channels, H, W, D] -> [B, C, H, W, D] with C >= K, or, under deep supervision, several of these,
            the finest first: a list, or a tensor [B, n, C, H, W, D]. Channels beyond K belong to a method and are left
            out of the answer.
        spatial_size, pixdim, label_values, strides, intensity_range: see `GridNetwork`.

    Attributes:
        refused: whether, as the second of two levels, it has learnt less than the first; no part of its state.

    forward: image [B, channels, H, W, D] in [0, 1] -> logits [B, K, H, W, D].
    """

    def __init__(
        self,
        body: nn.Module,
        spatial_size: Sequence[int],
        pixdim: Sequence[float],
        label_values: Sequence[int],
        strides: Sequence[Any] | None = None,
        intensity_range: Sequence[Sequence[float] | None] = (None,),
    ) -> None:
        super().__init__(spatial_size, pixdim, label_values, strides, intensity_range)
        self.body, self.refused = body, False

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
