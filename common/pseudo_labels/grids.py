"""Pseudo labels from the grid of a method's slices to the common one."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from monai.data import MetaTensor
from torch import Tensor

from ..grid.field_of_view import inside_scan
from ..grid.to_grid import between_grids
from .opinions import fuse


def on_grid(label: Mapping[str, Tensor], seen: MetaTensor, image: MetaTensor) -> dict[str, Tensor]:
    """Bring `target` [K, H, W, D] and `weight` [1, H, W, D] of one image to the grid of another, 0 beyond the scan.

    Args:
        label: both, on the grid of `seen`. seen, image: [C, H, W, D], of one scan.
    """
    if seen.shape[1:] == image.shape[1:]:
        return dict(label)
    both = torch.cat([label["target"], label["weight"]])
    both = between_grids(both, seen.affine, image.affine, image.shape[1:])
    inside = inside_scan(image).cpu()
    return {"target": fuse([both[:-1]]) * inside, "weight": both[-1:] * inside}
