"""Where structures lie, learnt from the soft labels of all cases at once."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from .location import original_fractions


class LearnedLocation:
    """The mean soft label of all cases in a common frame: in-plane the scan's own extent, along the slices each
    label's range of positive slices.

    A typical box says roughly where a label lies. What the first round finds in many cases differs from case to case
    where it is wrong and agrees where it is right, so the mean is a sharper box, without further supervision.

    Args:
        slice_axis: 0, 1 or 2.
        spatial_size: of the frame, in-plane (both) and along the slices.
    """

    def __init__(self, slice_axis: int, spatial_size: tuple[int, int] = (32, 12)) -> None:
        self.slice_axis = slice_axis
        self.size = [spatial_size[1] if axis == slice_axis else spatial_size[0] for axis in range(3)]
        self.mean: Tensor | None = None

    def fit(self, cases: Iterable[tuple[Tensor, Tensor, Tensor]]) -> None:
        """Average over cases: image MetaTensor [1, H, W, D], presence [P, H, W, D], soft labels [P, H, W, D]."""
        total, count = None, None
        for image, presence, labels in cases:
            if total is None:
                total, count = torch.zeros(len(labels), *self.size), torch.zeros(len(labels))
            for row, (bits, label) in enumerate(zip(presence, labels, strict=True)):
                if bool(bits.any()):
                    start, step = self._placement(image, bits)
                    size = zip(self.size, start, step, strict=True)
                    total[row] += sample(label.float(), [((torch.arange(n) + 0.5) / n - o) / s for n, o, s in size])
                    count[row] += 1
        if total is not None:
            self.mean = total / count.clamp_min(1).view(-1, 1, 1, 1)

    def prior(self, image: Tensor, presence: Tensor) -> Tensor:
        """Return the mean [P, H, W, D] in the place of a case, 0 where a label has no positive slice.

        Raises:
            RuntimeError: before `fit`.
        """
        if self.mean is None:
            raise RuntimeError("learned location: nothing was averaged yet")
        prior = torch.zeros(presence.shape)
        for row, bits in enumerate(presence):
            if bool(bits.any()):
                start, step = self._placement(image, bits)
                size = zip(bits.shape, start, step, self.size, strict=True)
                prior[row] = sample(self.mean[row], [(torch.arange(n) * s + o) * m - 0.5 for n, o, s, m in size])
        return prior

    def _placement(self, image: Tensor, bits: Tensor) -> tuple[list[float], list[float]]:
        """Return, along each axis, at which fraction of the frame voxel 0 lies and how far the next one is."""
        start, step = [], []
        for axis, fractions in enumerate(original_fractions(image)):
            line = fractions.movedim(axis, 0).flatten(1)[:, 0]  # the grid runs along the scan's axes
            first, spacing = float(line[0]), float(line[-1] - line[0]) / max(len(line) - 1, 1)
            if axis == self.slice_axis:
                positive = bits.movedim(axis, 0).flatten(1).any(1).nonzero().flatten()
                low, high = int(positive[0]), int(positive[-1]) + 1
                first, spacing = (0.5 - low) / (high - low), 1 / (high - low)
            start.append(first)
            step.append(spacing)
        return start, step


def sample(volume: Tensor, positions: list[Tensor]) -> Tensor:
    """Return a volume [H, W, D] at the crossings of positions along its axes, voxels; the border is repeated."""
    scaled = [2 * (p + 0.5) / n - 1 for p, n in zip(positions, volume.shape, strict=True)]
    grid = torch.stack(torch.meshgrid(*scaled, indexing="ij")[::-1], dim=-1)  # grid_sample wants x, y, z = D, W, H
    return F.grid_sample(volume[None, None], grid[None].to(volume), padding_mode="border", align_corners=False)[0, 0]
