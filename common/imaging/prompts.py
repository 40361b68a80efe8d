"""Prompts for promptable networks, made from probability maps: boxes, points, masks and clicks.

A position is continuous and in voxels: voxel i covers [i, i + 1], its centre is i + 0.5. A box of a slice is (first
row, first column, last row, last column) in these coordinates, so that a box over the whole slice is (0, 0, H, W).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from .morphology import _array, main_components

FOREGROUND = 0.5  # a voxel above this probability belongs to the structure


class Click(NamedTuple):
    """A voxel index (one int an axis) and its label: 1 the structure is here, 0 it is not."""

    voxel: tuple[int, ...]
    label: int


def bounding_boxes(masks: Tensor, padding: float = 0.0, min_size: float = 1.0) -> Tensor:
    """Return the box around each mask.

    Args:
        masks: [n, H, W] bool, none of them empty.
        padding: how far each edge moves outwards, as a share of the box's side.
        min_size: least side in voxels, reached by growing about the centre.

    Returns:
        [n, 4] float32, inside the slice.
    """
    height, width = masks.shape[-2:]
    boxes = masks.new_zeros((len(masks), 4), dtype=torch.float32)
    for box, mask in zip(boxes, masks, strict=True):
        for axis, length in ((0, height), (1, width)):
            there = mask.any(1 - axis).nonzero()[:, 0]
            first, last = float(there[0]), float(there[-1]) + 1
            grow = max(padding * (last - first), (min_size - (last - first)) / 2)
            box[axis], box[axis + 2] = max(first - grow, 0.0), min(last + grow, float(length))
    return boxes


def component_boxes(
    mask: Tensor, share: float = 0.2, padding: float = 0.05, min_size: float = 3.0, min_voxels: int = 1
) -> Tensor:
    """Return the boxes [n, 4] of a slice's main components; see `main_components` and `bounding_boxes`.

    Args:
        mask: [H, W] bool.
    """
    return bounding_boxes(main_components(mask, share, min_voxels), padding, min_size)


def jitter_boxes(
    boxes: Tensor, copies: int, spatial_size: Sequence[int], generator: torch.Generator, amount: float = 0.15
) -> Tensor:
    """Return copies of boxes whose edges are moved at random; the first copy is the boxes themselves.

    Args:
        boxes: [n, 4].
        spatial_size: H and W of the slice, which the copies don't leave.
        generator: on the CPU.
        amount: largest move of an edge, as a share of the box's side, below 0.5.

    Returns:
        [copies, n, 4].
    """
    side = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    moves = torch.rand((copies, *boxes.shape), generator=generator).to(boxes) * 2 - 1
    if copies:
        moves[0] = 0
    limit = boxes.new_tensor([*spatial_size, *spatial_size])
    return (boxes + amount * side * moves).clamp_min(0).minimum(limit)


def confident_points(
    probabilities: Tensor, count: int = 1, confidence: float = 0.9, generator: torch.Generator | None = None
) -> Tensor:
    """Return points deep inside the region where a map is confident, by the Euclidean distance transform.

    Args:
        probabilities: [H, W] in [0, 1].
        count: points wanted; each counts as outside for the next, so that they spread.
        confidence: the region is what lies above it; where nothing does, what lies above 0.5.
        generator: None takes the deepest voxel each time, a generator (CPU) draws among those half as deep or deeper.

    Returns:
        [m, 2] float32 of rows and columns, m <= count; m is 0 where no voxel is above 0.5.
    """
    region = _array(probabilities > confidence)
    if not region.any():
        region = _array(probabilities > FOREGROUND)
    return _deep_points(region, count, generator).to(probabilities.device)


def negative_points(
    probabilities: Tensor,
    count: int = 1,
    confidence: float = 0.9,
    reach: float = 0.5,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return points of sure background near the structure, as `confident_points` does for the inside.

    Args:
        confidence: the region is what lies below 1 - confidence,
        reach: in the structure's box padded by this share of its sides.
    """
    inside = probabilities > FOREGROUND
    if not bool(inside.any()):
        return _deep_points(np.zeros(inside.shape, bool), 0, None).to(probabilities.device)
    first_row, first_column, last_row, last_column = bounding_boxes(inside[None], reach, 3.0)[0].tolist()
    region = np.zeros(inside.shape, bool)
    near = (slice(int(first_row), int(np.ceil(last_row))), slice(int(first_column), int(np.ceil(last_column))))
    region[near] = _array(probabilities < 1 - confidence)[near]
    return _deep_points(region, count, generator).to(probabilities.device)


def mask_logits(probabilities: Tensor, clip: float = 1e-3) -> Tensor:
    """Return the logits of probabilities kept inside [clip, 1 - clip]: what mask prompts of the SAM family are."""
    return probabilities.float().clamp(clip, 1 - clip).logit()


def fill_gaps(probabilities: Tensor, slice_axis: int = -1, max_gap: int = 3, min_voxels: int = 1) -> Tensor:
    """Carry prompts along the slices: give slices that lost the structure what their neighbours have.

    A slice has the structure where at least `min_voxels` of it are above 0.5. Up to `max_gap` slices in a row without
    it between two that have it take the larger probability of these two, so that a box over it is the neighbours' box.
    Slices before the first and behind the last one stay as they are.

    Args:
        probabilities: [H, W, D] in [0, 1], of one structure.

    Returns:
        the same, changed in the filled slices alone.
    """
    slices = probabilities.movedim(slice_axis, 0)
    present = ((slices > FOREGROUND).flatten(1).sum(1) >= max(min_voxels, 1)).nonzero()[:, 0].tolist()
    filled = slices.clone()
    for before, after in pairwise(present):
        if 1 < after - before <= max_gap + 1:
            filled[before + 1 : after] = torch.maximum(slices[before], slices[after])
    return filled.movedim(0, slice_axis)


def error_click(target: Tensor, state: Tensor, generator: torch.Generator, deep: bool) -> Click | None:
    """Return a click on a voxel where a segmentation is wrong.

    Missed voxels are those of the target with state <= 0.5, false ones those outside it with state > 0.5.

    Args:
        target: [...] bool, what is to be segmented.
        state: [...] probabilities of the segmentation so far.
        generator: on the CPU.
        deep: of the missed and the false voxels those are taken that reach deeper (exact Euclidean distance, the border
            of the array is outside), and a voxel is drawn among those deeper than half the deepest, as interactive
            segmentation is trained (RITM). Else it is drawn uniformly among all wrong voxels.

    Returns:
        a click, label 1 for a missed voxel and 0 for a false one; a voxel of the target where nothing is wrong; None
        where the target is empty.
    """
    target = target.bool()
    if not bool(target.any()):
        return None
    found = state > FOREGROUND
    missed, false = target & ~found, ~target & found
    wrong = missed | false
    if not bool(wrong.any()):
        return Click(_draw(target, generator), 1)
    if not deep:
        voxel = _draw(wrong, generator)
        return Click(voxel, int(missed[voxel]))
    depths = [inside_distance(_array(region)) for region in (missed, false)]
    label = 1 if depths[0].max() >= depths[1].max() else 0
    depth = depths[1 - label]
    return Click(_draw(torch.from_numpy(depth > depth.max() / 2), generator), label)


def inside_distance(region: np.ndarray) -> np.ndarray:
    """Return the exact Euclidean distance (voxels) of a region's voxels to its outside; beyond the array is outside."""
    distance = np.zeros(region.shape, np.float32)
    boxes = ndimage.find_objects(region.astype(np.int8))
    if boxes:  # what lies outside the region's box can't be nearer than the rim around it
        distance[boxes[0]] = ndimage.distance_transform_edt(np.pad(region[boxes[0]], 1))[(slice(1, -1),) * region.ndim]
    return distance


def _deep_points(region: np.ndarray, count: int, generator: torch.Generator | None) -> Tensor:
    region, points = region.copy(), []
    while len(points) < count and region.any():
        depth = inside_distance(region)
        if generator is None:
            point = tuple(int(i) for i in np.unravel_index(depth.argmax(), depth.shape))
        else:
            point = _draw(torch.from_numpy(depth > depth.max() / 2), generator)
        region[point] = False
        points.append(point)
    return torch.tensor(points, dtype=torch.float32).reshape(-1, region.ndim) + 0.5


def _draw(region: Tensor, generator: torch.Generator) -> tuple[int, ...]:
    voxels = region.nonzero()
    return tuple(voxels[int(torch.randint(len(voxels), (1,), generator=generator))].tolist())
