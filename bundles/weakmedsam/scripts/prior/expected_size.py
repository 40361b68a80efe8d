"""How much of a positive slice a label is expected to cover: what a threshold without masks can go by."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ..common.errors import InputError
from ..common.grid.field_of_view import inside_scan
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
    pixdim: Sequence[float],
    slice_axis: int,
) -> list[float]:
    """Return the share of a positive slice's scanned part for volumes in ml: volume over mean length is a mean area.

    Args:
        presences: [P, H, W, D] of each case, 1 in a label's positive slices where they were scanned; their number and
            area are means over the cases that have the label.
        pixdim: of the grid, mm.

    Returns:
        P numbers from 0 to 1; 0 for a label that no case has.
    """
    in_plane = [axis - 3 for axis in range(3) if axis != slice_axis]
    voxels = torch.stack([presence.sum(in_plane) for presence in presences]).double()  # [N, P, n]
    counts, totals = (voxels > 0).sum(2), voxels.sum(2)  # [N, P] slices, voxels
    pixel = math.prod(pixdim) / pixdim[slice_axis]
    shares = []
    for volume, count, total in zip(volumes_ml, counts.T, totals.T, strict=True):
        there = count > 0
        length = float(count[there].double().mean()) * pixdim[slice_axis] if bool(there.any()) else math.inf
        plane = float((total[there] / count[there]).mean()) * pixel if bool(there.any()) else 1.0
        shares.append(min(1.0, 1000 * volume / length / plane))
    return shares


def shares_by_box(boxes: Sequence[Box], images: Sequence[Tensor], slice_axis: int) -> list[float]:
    """Return the share of the scanned plane within the ellipse that touches each box's sides, mean over cases.

    Args:
        images: MetaTensor [1, H, W, D] of each case; a scan may be smaller or larger than the grid's plane.

    Returns:
        P numbers from 0 to 1.
    """
    planes = [inside_scan(image)[0].cpu().float().amax(slice_axis) for image in images]
    return [
        sum(
            float((location_prior(image, box, slice_axis, 1.0, None).amax(slice_axis) * plane).mean() / plane.mean())
            for image, plane in zip(images, planes, strict=True)
        )
        / len(images)
        for box in boxes
    ]
