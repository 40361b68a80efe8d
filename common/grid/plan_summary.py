"""What a planned grid means, in a few lines: what the scans have, what the network sees, what a label loses on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, Orientationd
from torch import Tensor

from ..volumes.label import LoadLabelVolumed
from .grid import Grid, Level, Range
from .native import ToNativeGridd
from .plan import ras_geometry
from .to_grid import LabelToGridd, WayToGrid

SLAB = 8  # planes of a scan that are counted at once
MUCH = 0.2  # of what is no air beyond a range of intensities, from which on that is a mistake
LARGER = 1.02  # times the window's extent, from which on a scan is worth a word


def describe_grid(grid: Grid, cases: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line on the scans and one on each level.

    Args:
        cases: items with the keys `case` and `image` (path).
    """
    geometry = [ras_geometry(case["image"]) for case in cases]
    shape, spacing = (np.median([one[i] for one in geometry], axis=0) for i in (0, 1))
    yield f"{len(cases)} scans, at the median {_voxels(shape)} voxels of {_mm(spacing)} mm"
    span = np.multiply(grid.spatial_size, grid.pixdim)
    larger = [c["case"] for c, (n, p) in zip(cases, geometry, strict=True) if (n * p > LARGER * span).any()]
    seen = "all of a scan" if not larger else f"all but the edges of {len(larger)} larger scans ({_few(larger)})"
    yield f"level 1: {_level(grid.level)}: {seen}"
    if grid.fine is not None:
        yield f"level 2: windows of {_level(grid.fine)}, where level 1 finds something"


def describe_ranges(ranges: Sequence[Range | None], channels: Sequence[str], where: str) -> str:
    """Return a line on which values of a scan become 0 and 1: a range of all scans, with where it is from, or not."""
    said = [
        f"{name} " * bool(name)
        + ("percentiles of each scan" if pair is None else f"{pair[0]:g} to {pair[1]:g} ({where})")
        for name, pair in zip(channels, ranges, strict=True)
    ]
    return f"intensities from 0 to 1: {', '.join(said)}"


def describe_clipped(name: str, below: float, above: float) -> str:
    """Return a line on which shares of what is no air lie beyond a channel's range; a warning where they are large."""
    said = f"{name}: of what is no air {below:.0%} lies below that range and {above:.0%} above it"
    if max(below, above) <= MUCH:
        return said
    lost = "is as dark as air" if below >= above else "is all alike"
    return f"warning: {said}: what does {lost} to the networks; --intensity_range LOW,HIGH gives another"


def kept_by_levels(grid: Grid, labels: Sequence[str]) -> dict[int, dict[int, float]]:
    """Return level (1, 2) -> label value -> mean Dice of a true label with itself after its way there and back.

    Args:
        labels: paths of label maps; those of a value in none of them are left out.
    """
    load = Compose([LoadLabelVolumed("label"), Orientationd("label", axcodes="RAS", labels=None)])
    found: dict[int, dict[int, list[float]]] = {}
    for path in labels:
        label = load({"label": path})["label"]
        truth = LoadLabelVolumed("label")({"label": path})["label"][0]
        for number, level in enumerate([grid.level, *([grid.fine] if grid.fine else [])], start=1):
            soft = _OnSpacing(grid, level)({"label": label})["label"]
            back = ToNativeGridd("pred", grid.label_values, "label")({"label": soft, "pred": soft})["pred"][0]
            for value, dice in dice_by_value(truth, back, grid.label_values[1:]).items():
                found.setdefault(number, {}).setdefault(value, []).append(dice)
    return {n: {value: float(np.mean(d)) for value, d in by.items()} for n, by in found.items()}


def dice_by_value(truth: Tensor, pred: Tensor, values: Sequence[int]) -> dict[int, float]:
    """Return the Dice of each value that is in the first of two label maps [H, W, D]; all are counted in one go."""
    count = len(values) + 1
    classes = torch.zeros(max(values) + 1, dtype=torch.long)
    classes[list(values)] = torch.arange(1, count)
    pairs = torch.zeros(count * count, dtype=torch.long)
    for one, other in zip(truth.split(SLAB), pred.split(SLAB), strict=True):
        both = classes[one.flatten().long()] * count + classes[other.flatten().long()]
        pairs += torch.bincount(both, minlength=count * count)
    both, one, other = pairs.view(count, count).diag(), *(pairs.view(count, count).sum(axis) for axis in (1, 0))
    dice = (2 * both / (one + other)).tolist()
    return {value: dice[number] for number, value in enumerate(values, start=1) if one[number]}


def describe_kept(kept: Mapping[int, Mapping[int, float]], names: Mapping[int, str]) -> Iterator[str]:
    """Yield a line on what true labels lose on the finest level: the mean Dice, and the labels that lose most."""
    if not kept:
        return
    finest = kept[max(kept)]
    worst = sorted(finest, key=lambda value: finest[value])[:3]
    said = ", ".join(f"{names[value]} {finest[value]:.2f}" for value in worst)
    first = f", {np.mean(list(kept[1].values())):.2f} on level 1 alone" if len(kept) > 1 else ""
    yield f"a true label brought there and back keeps Dice {np.mean(list(finest.values())):.2f}{first}; least: {said}"


class _OnSpacing(LabelToGridd):
    def __init__(self, grid: Grid, level: Level) -> None:
        super().__init__("label", grid)
        self.level = level

    def find_way(self, image: Any) -> WayToGrid:
        return WayToGrid(image, self.level.pixdim, None)


def _voxels(size: Sequence[float] | np.ndarray) -> str:
    return " x ".join(f"{n:.0f}" for n in size)


def _mm(spacing: Sequence[float] | np.ndarray) -> str:
    return " x ".join(f"{p:.3g}" for p in spacing)


def _level(level: Level) -> str:
    span = np.multiply(level.spatial_size, level.pixdim)
    return f"{_voxels(level.spatial_size)} voxels of {_mm(level.pixdim)} mm ({_voxels(span)} mm)"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
