"""Prompts that a slice's class activation maps give: a box around what they hold, and themselves as a mask."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ..common.errors import InputError
from ..common.imaging.prompts import bounding_boxes, mask_logits

MASK_CLIP = 0.01  # how sure a map may be as a mask prompt


def cam_boxes(
    cam: Tensor, threshold: float = 0.4, share: float = 0.2, padding: float = 0.05, min_size: float = 2.0
) -> tuple[Tensor, Tensor]:
    """Return one box for each class: around the connected parts of its map that hold enough of the map's mass.

    A part's mass is the sum of the map over it, so that a stray hot cell does not stretch the box. Where no part holds
    the share, the heaviest one counts. Edges lie behind the last voxel, not on it.

    Args:
        cam: [P, rows, columns] in [0, 1] on the slice's grid.
        threshold: parts are where the map reaches it.
        share: least mass of a part, of what all parts hold together.
        padding: how far each edge moves outwards, as a share of the box's side.
        min_size: least side in voxels; two cells of the map, see `AdaSam.cell`.

    Returns:
        boxes: [P, 4] float32 first row, first column, last row, last column; the whole slice where no box was found.
        found: [P] bool; False where the map never reaches the threshold.

    Raises:
        InputError: a map of another shape, or a threshold or share outside 0 to 1.
    """
    if cam.ndim != 3:
        raise InputError(f"cam_boxes: found a map of shape {tuple(cam.shape)}, wanted [P, rows, columns]")
    for name, value in (("threshold", threshold), ("share", share)):
        if not 0 < value <= 1:
            raise InputError(f"cam_boxes: found {name} {value}, wanted above 0 and at most 1")
    maps = cam.as_subclass(Tensor).detach().float().cpu()
    rows, columns = maps.shape[-2:]
    boxes = torch.tensor([0.0, 0.0, rows, columns]).repeat(len(maps), 1)
    found = torch.zeros(len(maps), dtype=torch.bool)
    for index, values in enumerate(maps.numpy()):
        parts, count = ndimage.label(values >= threshold)
        if count:
            mass = ndimage.sum_labels(values, parts, np.arange(1, count + 1))
            kept = 1 + np.flatnonzero(mass >= min(share * mass.sum(), mass.max()))
            region = torch.from_numpy(np.isin(parts, kept))
            boxes[index] = bounding_boxes(region[None], padding, min_size)[0]
            found[index] = True
    return boxes.to(cam.device), found.to(cam.device)


def batch_boxes(
    cam: Tensor, threshold: float = 0.4, share: float = 0.2, padding: float = 0.05, min_size: float = 2.0
) -> tuple[Tensor, Tensor]:
    """Return `cam_boxes` of many slices: cam [N, P, rows, columns] -> boxes [N, P, 4], found [N, P]."""
    if cam.ndim != 4:
        raise InputError(f"batch_boxes: found maps of shape {tuple(cam.shape)}, wanted [N, P, rows, columns]")
    boxes, found = cam_boxes(cam.flatten(0, 1), threshold, share, padding, min_size)
    return boxes.unflatten(0, cam.shape[:2]), found.unflatten(0, cam.shape[:2])


def mask_prompt(cam: Tensor) -> Tensor:
    """Return a map in [0, 1] as the logits that a SAM takes as a mask prompt; gradients reach the map.

    Values below 0.01 and above 0.99 count as these and pass no gradient.
    """
    return mask_logits(cam, MASK_CLIP)
