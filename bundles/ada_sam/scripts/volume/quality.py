"""What a segmentation says of each structure, and where a person should look again: no truth is needed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..common.imaging.prompts import bounding_boxes
from .box_track import overlap_boxes

MISSING, BOX, JUMP, RUN = "missing", "box", "jump", "run"  # the flags
TAPER = 0.25  # of the largest area: slices below it are a structure's ends, where neighbours differ by nature


def measure(
    found: Tensor, label_values: Sequence[int], pixdim: Sequence[float], slice_axis: int
) -> dict[str, dict[str, Any]]:
    """Measure each structure.

    Args:
        found: bool [P, H, W, D], on any grid.
        label_values: of the P labels.
        pixdim: mm.
        slice_axis: 0, 1 or 2.

    Returns:
        {"volume_ml": {label value as text: ml}, "area_mm2": {label value as text: n cross-sectional areas}}.
    """
    voxel = math.prod(pixdim)
    counts = _slices(found, slice_axis).flatten(2).sum(2).cpu()  # [P, n]
    volumes = [float(row.sum()) * voxel / 1000 for row in counts]
    areas = [[round(int(count) * voxel / pixdim[slice_axis], 3) for count in row] for row in counts]
    names = [str(value) for value in label_values]
    return {
        "volume_ml": dict(zip(names, volumes, strict=True)),
        "area_mm2": dict(zip(names, areas, strict=True)),
    }


def check(
    found: Tensor,
    boxes: Tensor,
    gate: Tensor,
    runs: Sequence[int],
    labels: Mapping[int, str],
    slice_axis: int,
    box_overlap: float = 0.5,
    neighbour_dice: float = 0.6,
) -> dict[str, Any]:
    """Raise a flag for each structure whose parts don't agree with each other.

    `missing`: nothing was found. `box`: the mask is not where the activation map was, by the median over slices of the
    overlap (intersection over union) of their boxes. `jump`: neighbouring slices hardly overlap, other than at the
    ends. `run`: the slices with the structure are not all behind one another.

    Args:
        found: bool [P, H, W, D].
        boxes: [P, n, 4], of the activation maps.
        gate: bool [P, n], on which slices the structure was said to be.
        runs: P, of how many runs of slices the gate's was chosen; see `VolumeAnswer`.
        labels: value -> name of the P labels, 0 left out.
        slice_axis: 0, 1 or 2.

    Returns:
        {"box_overlap", "neighbour_dice" (the lowest), "jumps" (slices, counted from 0, that differ from the one before
        them), "runs", "flags" (of the above words), each {label value as text: .}; None where there is nothing to
        compare}. Which of the flags are told: `flags.stand_out`.
    """
    judged: dict[str, Any] = {name: {} for name in ("box_overlap", "neighbour_dice", "jumps", "runs", "flags")}
    values = [value for value in labels if value != 0]
    slices = _slices(found, slice_axis)  # [P, n, rows, columns]
    for row, value in enumerate(values):
        masks = slices[row]
        there = masks.flatten(1).any(1)
        parts = max(int(runs[row]), count_runs(there))
        overlap = _median_overlap(masks, boxes[row], there & gate[row])
        dices = _neighbour_dices(masks)
        jumps = [z for z, dice in dices.items() if dice < neighbour_dice]
        lowest = min(dices.values(), default=None)
        raised = {
            MISSING: not bool(there.any()),
            BOX: overlap is not None and overlap < box_overlap,
            JUMP: bool(jumps),
            RUN: parts > 1,
        }
        flags = [flag for flag, up in raised.items() if up]
        for key, entry in zip(judged, (overlap, lowest, jumps, parts, flags), strict=True):
            judged[key][str(value)] = entry
    return judged


def count_runs(there: Tensor) -> int:
    """Return the number of runs of True in a row [n] of bool."""
    padded = torch.cat([there.new_zeros(1), there])
    return int((padded[1:] & ~padded[:-1]).sum())


def _median_overlap(masks: Tensor, boxes: Tensor, where: Tensor) -> float | None:
    """Return the median over the slices `where` of the overlap of a mask's box and its slice's box."""
    if not bool(where.any()):
        return None
    tight = bounding_boxes(masks[where]).to(boxes)
    return float(overlap_boxes(tight, boxes[where]).median())


def _neighbour_dices(masks: Tensor) -> dict[int, float]:
    """Return the Dice of each slice with the one before it, where neither is an end of the structure."""
    areas = masks.flatten(1).sum(1)
    large = areas >= max(1.0, TAPER * float(areas.max()))
    both = (masks[1:] & masks[:-1]).flatten(1).sum(1)
    dices = 2 * both / (areas[1:] + areas[:-1]).clamp_min(1)
    return {z + 1: float(dices[z]) for z in range(len(dices)) if bool(large[z]) and bool(large[z + 1])}


def _slices(found: Tensor, slice_axis: int) -> Tensor:
    """[P, H, W, D] -> [P, n, rows, columns]"""
    return found.as_subclass(Tensor).bool().movedim(slice_axis + 1, 1)
