"""Where a soft map becomes a structure: by expected size, by Otsu, by a number, or by two (hysteresis)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk
import torch
from scipy import ndimage
from torch import Tensor

from ..errors import InputError

OTSU_BINS = 256


def area_thresholds(maps: Tensor, inside: Tensor, share: Sequence[float]) -> Tensor:
    """Return, for each map, the value above which lies a share of the voxels in question.

    Args:
        maps: [P, H, W, D].
        inside: bool [P, H, W, D] (or broadcast to it): the voxels that count, as those of the positive slices.
        share: P numbers from 0 to 1.

    Returns:
        [P] float32: exactly round(share * voxels) are above it (none: infinity) unless voxels of equal value lie on
        both sides of it; these are all left out, or all kept where nothing would remain.

    Raises:
        InputError: share of another length or range.
    """
    share = [float(value) for value in share]
    if len(share) != len(maps) or not all(0 <= value <= 1 for value in share):
        raise InputError(f"area: found shares {share}, wanted {len(maps)} numbers from 0 to 1")
    found = []
    for values, part in zip(_values(maps, inside), share, strict=True):
        count = round(part * len(values))
        found.append(_value_above(values, count))
    return torch.stack(found)


def otsu_thresholds(maps: Tensor, inside: Tensor) -> Tensor:
    """Return, for each map [P, H, W, D], Otsu's threshold of its values `inside` (bool), [P] float32.

    Infinity where no voxel is inside or all have one value.
    """
    found = []
    for values in _values(maps, inside):
        if len(values) < 2 or float(values.max() - values.min()) < 1e-8:
            found.append(values.new_tensor(float("inf")))
            continue
        otsu = sitk.OtsuThresholdImageFilter()
        otsu.SetNumberOfHistogramBins(OTSU_BINS)
        otsu.Execute(sitk.GetImageFromArray(values.cpu().numpy()[None]))
        found.append(values.new_tensor(otsu.GetThreshold()))
    return torch.stack(found)


def fixed_thresholds(maps: Tensor, value: float = 0.5) -> Tensor:
    """Return the same threshold for each map [P, ...], [P] float32."""
    return torch.full((len(maps),), float(value), device=maps.device)


def above(maps: Tensor, thresholds: Tensor, inside: Tensor) -> Tensor:
    """Return where maps [P, H, W, D] are above their threshold [P] and `inside`, bool [P, H, W, D]."""
    return (maps.as_subclass(Tensor) > _spatial(thresholds, maps)) & inside.as_subclass(Tensor).bool()


def hysteresis(maps: Tensor, low: float, high: float, inside: Tensor | None = None) -> Tensor:
    """Return the parts of a map above `low` that touch a voxel above `high`.

    Args:
        maps: [P, ...] of any number of axes; the P maps are apart, neighbours share a face.
        inside: bool [P, ...]; None for all.

    Returns:
        bool [P, ...].

    Raises:
        InputError: low above high.
    """
    if low > high:
        raise InputError(f"hysteresis: found low {low} above high {high}, wanted low <= high")
    maps = maps.as_subclass(Tensor)
    keep = torch.ones_like(maps, dtype=torch.bool) if inside is None else inside.as_subclass(Tensor).bool()
    weak, strong = (maps > low) & keep, (maps > high) & keep
    grown = [
        ndimage.binary_propagation(seed.cpu().numpy(), mask=mask.cpu().numpy())
        for seed, mask in zip(strong, weak, strict=True)
    ]
    return torch.from_numpy(np.stack(grown)).to(maps.device)


def _values(maps: Tensor, inside: Tensor) -> list[Tensor]:
    maps = maps.as_subclass(Tensor).float()
    inside = inside.as_subclass(Tensor).bool().expand(maps.shape)
    return [one[where] for one, where in zip(maps, inside, strict=True)]


def _value_above(values: Tensor, count: int) -> Tensor:
    """Return the value above which `count` of values [N] lie."""
    if count == 0:
        return values.new_tensor(float("inf"))
    if count >= len(values):
        return values.new_tensor(float("-inf"))
    top = values.topk(count + 1).values
    last, following = top[-2], top[-1]
    # halfway, so that rounding can't move a voxel to the other side
    middle = (last + following) / 2 if last > following else following
    if not bool((values > middle).any()):  # all of the largest are equal
        lower = values[values < middle]
        middle = (middle + lower.max()) / 2 if len(lower) else values.new_tensor(float("-inf"))
    return middle


def _spatial(thresholds: Tensor, maps: Tensor) -> Tensor:
    return thresholds.to(maps.device).view(-1, *[1] * (maps.ndim - 1))
