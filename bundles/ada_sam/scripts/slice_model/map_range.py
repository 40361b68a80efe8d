"""How a network's activation maps come to [0, 1], slice by slice and yet not by each slice's own maximum."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..common.tensors import match_grid

RUNNING, SIGMOID = "running", "sigmoid"
CAM_RANGES = (RUNNING, SIGMOID)


class MapRange(nn.Module):
    """A network whose maps come to [0, 1] by the range that it has seen, or as the logits that they have learnt to be.

    Args:
        slice_size: rows and columns of every slice.
        classes: P.
        cam_range: one of `CAM_RANGES`.
        momentum: of the running range.
    """

    def __init__(self, slice_size: Sequence[int], classes: int, cam_range: str, momentum: float) -> None:
        super().__init__()
        self.slice_size, self.classes = (int(slice_size[0]), int(slice_size[1])), classes
        self.cam_range, self.momentum = cam_range, momentum
        self.register_buffer("cam_low", torch.zeros(classes))
        self.register_buffer("cam_high", torch.zeros(classes))  # not above low: nothing was observed

    @property
    def observed(self) -> Tensor:
        """For which classes [P] `observe` has seen a slice."""
        return self.cam_high > self.cam_low

    def planes(self, maps: Tensor) -> Tensor:
        """Bring maps [N, P, h, w] to the slice's grid [N, P, rows, columns], float32."""
        return match_grid(maps.float()[:, :, None], (1, *self.slice_size))[:, :, 0]

    def normalise(self, maps: Tensor, classes: Sequence[int] | None = None) -> Tensor:
        """Bring maps [N, M, h, w] to [0, 1] on the slice's grid [N, M, rows, columns].

        Args:
            classes: whose maps these are, M indices 0 to P - 1; None: all P.
        """
        planes = self.planes(maps)
        if self.cam_range == SIGMOID:
            return planes.sigmoid()
        of = slice(None) if classes is None else list(classes)
        low, high, observed = (
            value[of].view(1, -1, 1, 1).to(planes.device) for value in (self.cam_low, self.cam_high, self.observed)
        )
        own = planes.detach()
        # before anything was observed, each slice's own range
        low = torch.where(observed, low, own.amin((2, 3), keepdim=True))
        high = torch.where(observed, high, own.amax((2, 3), keepdim=True))
        return ((planes - low) / (high - low).clamp_min(1e-6)).clamp(0, 1)

    @torch.no_grad()
    def observe(self, maps: Tensor, bits: Tensor) -> None:
        """Let the maps of slices where a class is move its running range: the means of their lowest and highest values.

        A slice can then be normalised alone and yet not by its own maximum: a flat map stays flat.

        Args:
            maps: [N, P, h, w] of a `Sight`.
            bits: [N, P], which classes are on the slices.
        """
        maps, there = maps.detach().float().flatten(2), bits.bool().to(maps.device)
        count = there.sum(0)
        step = torch.where(self.observed, 1 - self.momentum, 1.0)  # the first slices set the range
        for buffer, value in ((self.cam_low, maps.amin(2)), (self.cam_high, maps.amax(2))):
            mean = (value * there).sum(0) / count.clamp_min(1)
            buffer.copy_(torch.where(count > 0, torch.lerp(buffer, mean, step), buffer))
