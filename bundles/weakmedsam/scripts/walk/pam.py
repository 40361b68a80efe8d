"""Prompt affinity mining: what a SAM puts into one mask, from the same grid of prompts on every slice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..common.errors import InputError
from ..common.imaging.cam import maps_to_volume
from ..common.sam.features.volume import crop_padding
from ..common.sam.members.preprocessing import Preprocessing

KINDS = ("points", "boxes")


def point_grid(image_size: int, count: int, legacy: bool = False, covered: Sequence[int] | None = None) -> Tensor:
    """Return the centres of count x count equal cells, row by row.

    Args:
        image_size: side of the encoder's input, pixels.
        count: points along a side.
        legacy: the released code's positions, (i + 0.5) * count, which all lie in the top left corner.
        covered: rows and columns of the input that the slice fills; None for all.

    Returns:
        [count * count, 2] float32, (x, y) in encoder pixels.
    """
    rows, columns = (image_size, image_size) if covered is None else covered
    steps = torch.arange(count) + 0.5
    y, x = ((steps * count).int().float(),) * 2 if legacy else (steps * rows / count, steps * columns / count)
    return torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1).flatten(0, 1)


def box_grid(image_size: int, count: int, covered: Sequence[int] | None = None, scale: float = 1.0) -> Tensor:
    """Return count x count equal cells as boxes, row by row, for weights that ignore points.

    Args:
        scale: side of a box, as a share of its cell's; boxes end at the slice's edges.

    Returns:
        [count * count, 4] float32, x0, y0, x1, y1 in encoder pixels.
    """
    rows, columns = (image_size, image_size) if covered is None else covered
    centres = point_grid(image_size, count, covered=covered)
    half = torch.tensor([columns, rows]) / count / 2 * scale
    last = torch.tensor([columns, rows], dtype=torch.float32)
    low, high = (centres - half).clamp_min(0), torch.minimum(centres + half, last)
    return torch.cat([low, high], dim=-1)


@torch.no_grad()
def mask_channels(
    backbone: Any,
    embedding: Tensor,
    kind: str = "points",
    count: int = 4,
    summed: bool = False,
    legacy: bool = False,
    covered: Sequence[int] | None = None,
    scale: float = 1.0,
) -> Tensor:
    """Decode the grid's prompts, each by itself, on slices that were encoded once.

    Args:
        backbone: a `SliceBackbone`.
        embedding: [n, C, h, w], of its `encode`.
        kind: "points" or "boxes".
        count: prompts along a side of the slice; G = count * count.
        summed: add up the logits, as released: one channel, without scale.
        legacy: of `point_grid`.
        covered: see `point_grid`.
        scale: see `box_grid`.

    Returns:
        [n, G, m, m] float32, probabilities, or [n, 1, m, m] summed logits; m is the decoder's own size.

    Raises:
        InputError: another kind, a count below 1, or points for a backbone that ignores them.
    """
    if kind not in KINDS:
        raise InputError(f"pam: found prompts {kind!r}, wanted one of {', '.join(KINDS)}")
    if count < 1:
        raise InputError(f"pam: found {count} prompts along a side, wanted at least 1")
    if kind == "points" and not backbone.takes_points:
        raise InputError(f"pam: found points for {backbone.name}, which ignores them, wanted boxes")
    if kind == "points":
        prompts, decode = point_grid(backbone.image_size, count, legacy, covered), backbone.decode_points
    else:
        prompts, decode = box_grid(backbone.image_size, count, covered, scale), backbone.decode_boxes
    prompts = prompts.to(embedding).expand(len(embedding), -1, -1)
    logits = decode(embedding, prompts).float()
    return logits.sum(1, keepdim=True) if summed else logits.sigmoid()


def channels_to_volume(
    channels: Tensor, preprocessing: Preprocessing, spatial_size: Sequence[int], slice_axis: int
) -> Tensor:
    """Bring masks [n, G, m, m] of the padded square input to the volume's grid [G, H, W, D]."""
    side = preprocessing.image_size
    rows, columns = covered_by(preprocessing, spatial_size, slice_axis)
    return maps_to_volume(crop_padding(channels, (rows / side, columns / side)), spatial_size, slice_axis)


def covered_by(preprocessing: Preprocessing, spatial_size: Sequence[int], slice_axis: int) -> tuple[int, int]:
    """Return the rows and columns of the encoder's input that a slice of the volume fills."""
    height, width = (int(n) for axis, n in enumerate(spatial_size) if axis != slice_axis)
    return preprocessing.resized_size(height, width)


def mask_guide(
    backbone: Any,
    embedding: Tensor,
    spatial_size: Sequence[int],
    slice_axis: int,
    kind: str = "points",
    count: int = 4,
    summed: bool = False,
    legacy: bool = False,
    scale: float = 1.0,
) -> Tensor:
    """Return what `edge_weights` compares: `mask_channels` of all slices, on the volume's grid.

    The prompts are the same on every slice, so that a channel also compares across slices. Slice by slice, because
    masks of the decoder's size are many times larger than those of the grid.

    Args:
        embedding: [n, C, h, w], the slices of the volume in their order (all, or evenly spaced ones).

    Returns:
        [G, H, W, D] float32, G = count * count (1 where summed).
    """
    covered = covered_by(backbone.preprocessing, spatial_size, slice_axis)
    plane = [1 if axis == slice_axis else int(n) for axis, n in enumerate(spatial_size)]
    planes = []
    for one in embedding.split(1):
        channels = mask_channels(backbone, one, kind, count, summed, legacy, covered, scale)
        volume = channels_to_volume(channels, backbone.preprocessing, plane, slice_axis)
        planes.append(volume.movedim(slice_axis + 1, 1)[:, 0])  # [G, rows, columns]
    return maps_to_volume(torch.stack(planes), spatial_size, slice_axis)
