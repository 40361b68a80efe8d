"""What of a prediction tells how good it is, and what of it is unlike what was learnt from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from ..grid.field_of_view import inside_scan
from ..grid.native import largest
from ..tensors import plain

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
SAMPLES = 200_000  # voxels of an image that its quantiles are of


@dataclass(frozen=True)
class Features:
    """Of one label in one scan.

    Attributes:
        own: Dice of the label with what the probabilities themselves expect, 2 sum(p m) / (sum p + sum m).
        view: Dice with the answer for the scan turned and scaled; None where it was seen once.
        volume_ml: ml.
        spread: mean distance from the centre over that of a ball of this volume: 1 for a ball; 0 where nothing is.
    """

    own: float
    view: float | None
    volume_ml: float
    spread: float

    @property
    def score(self) -> float:
        """A Dice that nobody has seen: `own` times `view`."""
        return self.own * (1.0 if self.view is None else self.view)

    def as_dict(self) -> dict[str, float | None]:
        """Return all of it, for a file."""
        return asdict(self)


def label_features(probabilities: Tensor, pixdim: Sequence[float], again: Tensor | None = None) -> list[Features]:
    """Return the features of each class but background.

    Args:
        probabilities: [K, H, W, D], of one scan.
        pixdim: of its voxels, mm.
        again: classes [H, W, D] of a second answer on the same voxels.
    """
    probabilities = probabilities.detach()
    found = largest(probabilities)
    other = None if again is None else again.to(found.device)
    return [_features(probabilities[number], found == number, pixdim, None if other is None else other == number)
            for number in range(1, len(probabilities))]  # fmt: skip


def _features(expected: Tensor, mask: Tensor, pixdim: Sequence[float], again: Tensor | None) -> Features:
    count = int(mask.sum())
    if not count:
        return Features(0.0, None if again is None else 0.0, 0.0, 0.0)
    both = float(expected[mask].sum(dtype=torch.float64))
    own = 2 * both / (float(expected.sum(dtype=torch.float64)) + count)
    view = None if again is None else 2 * int((mask & again).sum()) / (count + int(again.sum()))
    volume = count * math.prod(pixdim)
    return Features(own, view, volume / 1000, spread(mask, pixdim, volume))


def spread(mask: Tensor, pixdim: Sequence[float], volume: float) -> float:
    """Return the root mean square distance from the centre over that of a ball of the volume, mm^3."""
    square = 0.0
    for axis, spacing in enumerate(pixdim):
        others = [other for other in range(3) if other != axis]
        weight = mask.sum(others).double()
        place = torch.arange(len(weight), dtype=torch.float64, device=mask.device) * spacing
        weight = weight / weight.sum()
        square += float((weight * (place - (weight * place).sum()) ** 2).sum()) + spacing**2 / 12
    radius = (3 * volume / (4 * math.pi)) ** (1 / 3)
    return math.sqrt(square / (0.6 * radius**2))


def image_quantiles(image: Tensor) -> list[list[float]]:
    """Return the quantiles [C, 5] of what was scanned of an image [C, H, W, D] on the network's voxels, in [0, 1]."""
    inside = inside_scan(image)[0].cpu()
    values = plain(image).float().cpu()[:, inside] if bool(inside.any()) else plain(image).float().cpu().flatten(1)
    values = values[:, :: max(values.shape[1] // SAMPLES, 1)]
    return torch.quantile(values, torch.tensor(QUANTILES), dim=1).T.tolist()
