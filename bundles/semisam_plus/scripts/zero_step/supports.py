"""The labelled slices that a first label comes from: their features and label maps, and which are nearest."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..common.errors import InputError

STEP = 0.02  # of a scan's length, by which a shift is tried
OVERLAP = 0.7  # share of a case's labelled slices that a shift leaves inside the scan


class Supports(nn.Module):
    """Slices with foreground of all labelled volumes, as buffers, so that model.pt holds them.

    Args:
        features: [n, C, r, c] float16, each without the mean over its scan.
        labels: class of each voxel [n, H, W] uint8.
        positions: of the slice in its volume [n] float32, 0 the first one and 1 the last.
        cases: which volume a slice is of [n] uint8.
    """

    def __init__(self, features: Tensor, labels: Tensor, positions: Tensor, cases: Tensor) -> None:
        super().__init__()
        self.features: Tensor
        self.labels: Tensor
        self.positions: Tensor
        self.cases: Tensor
        for name, tensor in (("features", features), ("labels", labels), ("positions", positions), ("cases", cases)):
            self.register_buffer(name, tensor)

    def __len__(self) -> int:
        return len(self.positions)

    def nearest(self, features: Tensor, count: int = 3, shift: float = 0.2, window: float = 0.05) -> Tensor:
        """Return for each slice of a scan the nearest labelled ones by the L1 distance of features, [D, count] int64.

        Each labelled volume is first moved along the scan, by `shift` of its length at most, to where its slices are
        most like those that they meet; a slice is then compared with those within `window` of its own place. -1 stands
        where there are fewer.

        Args:
            features: [D, C, r, c] of the scan, without their mean.
        """
        depth = len(features)
        distance = torch.cdist(features.flatten(1), self.features.float().flatten(1), p=1)  # [D, n]
        places = place_slices(depth).to(self.positions)
        lie = self.positions.clone()
        for case in self.cases.unique():
            own = (self.cases == case).nonzero()[:, 0]
            lie[own] += self._best_shift(distance[:, own], self.positions[own], shift)
        distance = distance.masked_fill((places[:, None] - lie).abs() > window + 1e-6, float("inf"))
        found = distance.topk(min(count, len(self)), largest=False)
        return torch.where(found.values.isfinite(), found.indices, -1)

    def _best_shift(self, distance: Tensor, positions: Tensor, most: float) -> float:
        depth, slices = distance.shape
        best, found = float("inf"), 0.0
        steps = round(most / STEP)
        for number in sorted(range(-steps, steps + 1), key=abs):  # of equals the smallest
            met = ((positions + number * STEP) * (depth - 1)).round().long()
            inside = (met >= 0) & (met < depth)
            if inside.float().mean() < OVERLAP:
                continue
            mean = float(distance[met[inside], torch.arange(slices, device=met.device)[inside]].mean())
            if mean < best - 1e-6:
                best, found = mean, number * STEP
        return found


def place_slices(depth: int) -> Tensor:
    """Return where each of `depth` slices lies in its volume, [depth] float32 from 0 to 1."""
    return torch.linspace(0, 1, depth) if depth > 1 else torch.full((1,), 0.5)


def make_supports(volumes: Sequence[tuple[Tensor, Tensor]]) -> Supports:
    """Return the supports of labelled volumes: their slices with foreground.

    Args:
        volumes: features [D, C, r, c] without their mean, and probabilities [K, H, W, D] with slices along the last
            axis; all of one C, r, c, H and W.

    Raises:
        InputError: no slice with foreground.
    """
    parts: list[tuple[Tensor, ...]] = []
    for number, (features, probabilities) in enumerate(volumes):
        labels = probabilities.argmax(0).movedim(-1, 0).to(torch.uint8)
        shown = labels.flatten(1).any(1).nonzero()[:, 0]
        places, case = place_slices(len(labels))[shown], torch.full((len(shown),), number, dtype=torch.uint8)
        parts.append((features[shown].half().cpu(), labels[shown].cpu(), places, case))
    if not any(len(part[0]) for part in parts):
        raise InputError("labelled cases: found no foreground on the grid, wanted a structure; or a larger max_voxels")
    return Supports(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))
