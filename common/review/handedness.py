"""Is a scan mirrored? What lies around the structures tells left from right, front from back, head from foot."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..tensors import plain

POINTS = 16  # along each axis of what is compared
QUANTILES = (0.16, 0.5, 0.84)  # of what was found, along an axis; half of the outer two is a standard deviation
REACH = 3.0  # half of the cube's width in these
FLAT = 1e-5  # standard deviation of an image in [0, 1]
FEWEST = 6  # scans that have to agree on what is left and right
AGREEING = 0.8  # share of them
AXES = ("left and right", "front and back", "head and foot")  # of RAS


@dataclass(frozen=True)
class Handedness:
    """The mean surroundings of what a model finds in its training scans, and the axes whose ends these tell apart.

    Each of the training scans, left out of the mean in turn, is compared with the mean and with the mean mirrored. An
    axis is told where four of five are more like the former: a body of two alike halves has no such axis. A scan is
    mirrored that is more like a mirrored mean by over twice as much as any of the training scans.

    Attributes:
        mean: float16 [16, 16, 16] as base64.
        told: of the three axes R, A, S.
        margin: of the correlation.
    """

    mean: str
    told: tuple[bool, bool, bool]
    margin: float

    def mirrored(self, around: Tensor | None) -> list[str]:
        """Return the ends that a scan has the wrong way round, some of `AXES`: the mean is most like it mirrored so.

        Args:
            around: what `surroundings` returns for it.
        """
        if around is None:
            return []
        values = np.frombuffer(base64.b64decode(self.mean), dtype="<f2").astype(np.float32).reshape((POINTS,) * 3)
        gain, axes = best_mirror(around, torch.from_numpy(values), self.told)
        return [AXES[axis] for axis in axes] if gain > self.margin else []


def learn_handedness(around: Sequence[Tensor | None]) -> Handedness | None:
    """Return what scans have in common; None where it tells nothing, or there are fewer than six.

    Args:
        around: what `surroundings` returns for each.
    """
    known = [one for one in around if one is not None]
    if len(known) < FEWEST:
        return None
    whole = torch.stack(known).sum(0)
    agree = [sum(alike(one, whole - one) > alike(one, whole - one, [axis]) for one in known) for axis in range(3)]
    told = tuple(count >= AGREEING * len(known) for count in agree)
    if not any(told):
        return None
    margin = max(0.0, 2 * max(best_mirror(one, whole - one, told)[0] for one in known))
    mean = unit(whole).numpy().astype("<f2").tobytes()
    return Handedness(base64.b64encode(mean).decode("ascii"), (told[0], told[1], told[2]), margin)


def best_mirror(around: Tensor, mean: Tensor, told: Sequence[bool]) -> tuple[float, tuple[int, ...]]:
    """Return how much more a scan is like the mean that is mirrored in the best way than like the mean, and the way."""
    axes = [axis for axis, known in enumerate(told) if known]
    ways = [way for count in range(1, len(axes) + 1) for way in combinations(axes, count)]
    return max((alike(around, mean, way) - alike(around, mean), way) for way in ways)


def surroundings(image: Tensor, found: Tensor, pixdim: Sequence[float]) -> Tensor | None:
    """Return the image around what was found, [16, 16, 16], mean 0 and norm 1; None where nothing was, or it is flat.

    Its cube is as wide as what was found is large, so that a larger body is compared with a smaller one.

    Args:
        image: [C, H, W, D] in RAS, whose first channel counts.
        found: classes [H, W, D] on its voxels, 0 nothing.
        pixdim: of its voxels, mm.
    """
    mask = found > 0
    if not bool(mask.any()):
        return None
    centre, spans = [], []
    for axis, spacing in enumerate(pixdim):  # quantiles, which a few voxels elsewhere don't move
        weight = mask.sum([other for other in range(3) if other != axis]).double().cpu()
        edges = torch.cat([torch.zeros(1, dtype=torch.float64), weight.cumsum(0) / weight.sum()])
        low, middle, high = np.interp(QUANTILES, edges.numpy(), np.arange(len(edges)) - 0.5) * spacing
        centre.append(float(middle))
        spans.append(float(high - low) / 2)
    half = REACH * math.sqrt(sum(span**2 for span in spans) / 3)
    steps = np.linspace(-half, half, 2 * POINTS)  # twice as dense and then averaged, so that nothing between is lost
    size = image.shape[1:]
    # voxel -> [-1, 1] of grid_sample, whose last axis comes first
    places = [(torch.from_numpy(middle + steps) / spacing / max(n - 1, 1) * 2 - 1).float()
              for middle, spacing, n in zip(centre, pixdim, size, strict=True)]  # fmt: skip
    grid = torch.stack(torch.meshgrid(*places, indexing="ij")[::-1], -1)[None].to(image.device)
    dense = functional.grid_sample(
        plain(image)[None, :1].float(), grid, padding_mode="border", align_corners=True
    )  # [1, 1, 32, 32, 32]
    around = functional.avg_pool3d(dense, 2)[0, 0].cpu()
    return unit(around) if float(around.std()) > FLAT else None


def alike(around: Tensor, mean: Tensor, mirrored: Sequence[int] = ()) -> float:
    """Return the correlation with a mean that is mirrored along some axes."""
    return float((around * unit(mean.flip(list(mirrored)))).sum())


def unit(volume: Tensor) -> Tensor:
    """Return a volume less its mean, over its norm."""
    volume = volume - volume.mean()
    return volume / volume.norm().clamp_min(1e-12)
