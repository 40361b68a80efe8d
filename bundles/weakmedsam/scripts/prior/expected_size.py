"""How much of a positive slice a label is expected to cover: what a threshold without masks can go by."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ..common.errors import InputError
from ..common.slices.presence_volume import slice_bits
from .location import Box, location_prior


def choose_threshold(wanted: str | float, prior: str, sizes: Sequence[float | None]) -> str | float:
    """Return where maps are cut: `size`, `box`, `otsu`, or a number.

    Args:
        wanted: `auto`, `size`, `otsu` or a number between 0 and 1; auto is size where every label has one, else the
            area of the box where that is the prior, else otsu.
        prior: `box`, `cam` or `centre`.
        sizes: volume of each label in ml, None where the datalist gives none.

    Raises:
        InputError: none of these, or size where a label has none.
    """
    if isinstance(wanted, (int, float)) and not isinstance(wanted, bool):
        if 0 < wanted < 1:
            return float(wanted)
    elif wanted == "auto":
        return "size" if None not in sizes else "box" if prior == "box" else "otsu"
    elif wanted == "size" and None in sizes:
        raise InputError("threshold is size, but locations does not give every label's volume_ml")
    elif wanted in ("size", "otsu"):
        return wanted
    raise InputError(f"threshold is {wanted!r}; wanted auto, size, otsu, or a number between 0 and 1")


def shares_by_volume(
    volumes_ml: Sequence[float],
    presences: Iterable[Tensor],
    spatial_size: Sequence[int],
    pixdim: Sequence[float],
    slice_axis: int,
) -> list[float]:
    """Return the share of a positive slice for volumes in ml: volume over mean length is a mean area.

    Args:
        presences: [P, H, W, D] of each case; the length is that of a label's positive slices, mean over the cases that
            have it.
        pixdim: of the grid, mm.

    Returns:
        P numbers from 0 to 1; 0 for a label that no case has.
    """
    counts = torch.stack([slice_bits(presence, slice_axis).sum(1) for presence in presences]).float()  # [N, P]
    lengths = [float(c[c > 0].mean()) * pixdim[slice_axis] if bool((c > 0).any()) else math.inf for c in counts.T]
    sides = [n * p for axis, (n, p) in enumerate(zip(spatial_size, pixdim, strict=True)) if axis != slice_axis]
    areas = [1000 * volume / length for volume, length in zip(volumes_ml, lengths, strict=True)]
    return [min(1.0, area / math.prod(sides)) for area in areas]


def shares_by_box(boxes: Sequence[Box], images: Sequence[Tensor], slice_axis: int) -> list[float]:
    """Return the share of the grid's plane within the ellipse that touches each box's sides, mean over cases.

    Args:
        images: MetaTensor [1, H, W, D] of each case; a scan may be smaller or larger than the grid's plane.

    Returns:
        P numbers from 0 to 1.
    """
    return [
        sum(float(location_prior(i, box, slice_axis, 1.0, None).amax(slice_axis).mean()) for i in images) / len(images)
        for box in boxes
    ]
