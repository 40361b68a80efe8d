"""Boxes along the slices of a volume: without jumps, without gaps, and handed on from slice to slice."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..common.errors import InputError


def median_boxes(boxes: Tensor, found: Tensor, width: int = 5) -> Tensor:
    """Return each box's running median along the slices, edge by edge, so that a single slice can't jump.

    Args:
        boxes: [P, n, 4].
        found: bool [P, n]; other boxes don't count, and take the median around the nearest one that does.
        width: slices of the window, odd; 1 fills the gaps alone.

    Returns:
        [P, n, 4]; the boxes as they are for a class that has none found.

    Raises:
        InputError: an even width, or one below 1.
    """
    if width < 1 or width % 2 == 0:
        raise InputError(f"box_median: found {width}, wanted an odd number of slices, 1 for none")
    result = boxes.clone()
    for label, where in enumerate(found.cpu().numpy()):
        places = np.flatnonzero(where)
        own = boxes[label].cpu().numpy()
        for z in range(len(where)) if len(places) else ():
            centre = places[np.abs(places - z).argmin()]
            near = places[np.abs(places - centre) <= width // 2]
            result[label, z] = torch.from_numpy(np.median(own[near], axis=0)).to(boxes)
    return result


def grow_boxes(boxes: Tensor, voxels: float, spatial_size: tuple[int, int]) -> Tensor:
    """Return boxes [..., 4] whose edges lie so many voxels further out, inside the slice: those of a dilated mask."""
    limit = boxes.new_tensor([*spatial_size, *spatial_size])
    outwards = boxes.new_tensor([-voxels, -voxels, voxels, voxels])
    return (boxes + outwards).clamp_min(0).minimum(limit)


def unite_boxes(first: Tensor, second: Tensor) -> Tensor:
    """Return the smallest boxes [..., 4] that hold two."""
    return torch.cat([first[..., :2].minimum(second[..., :2]), first[..., 2:].maximum(second[..., 2:])], dim=-1)


def overlap_boxes(first: Tensor, second: Tensor) -> Tensor:
    """Return the area that two boxes [..., 4] share, over that which they cover together, in [0, 1]."""
    shared = (first[..., 2:].minimum(second[..., 2:]) - first[..., :2].maximum(second[..., :2])).clamp_min(0).prod(-1)
    areas = sum((boxes[..., 2:] - boxes[..., :2]).prod(-1) for boxes in (first, second))
    return shared / (areas - shared).clamp_min(1e-6)
