"""Smoothing, growing, shrinking and the pieces of masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.networks.layers import gaussian_1d, separable_filtering
from scipy import ndimage
from torch import Tensor


def gaussian_smooth(maps: torch.Tensor, sigma: float | Sequence[float]) -> torch.Tensor:
    """Smooth maps [C, H, W, D] with a Gaussian of sigma voxels (one number or one an axis); the border is repeated."""
    kernels = []
    for s in [float(sigma)] * 3 if isinstance(sigma, (int, float)) else sigma:
        kernel = torch.ones(1)
        if s > 0:
            kernel = gaussian_1d(torch.tensor(float(s)), truncated=3.0, approx="sampled", normalize=False)
        kernels.append((kernel / kernel.sum()).to(maps))
    return separable_filtering(maps[:, None], kernels, mode="replicate")[:, 0]


def dilate(mask: Tensor, voxels: int) -> Tensor:
    """Grow a boolean mask [H, W, D] by a number of voxels (cube)."""
    grown = mask.bool()
    for axis in range(3):  # axis by axis, which costs a hundredth of the cube
        for _ in range(min(voxels, mask.shape[axis])):
            before, n = grown, mask.shape[axis] - 1
            grown = before.clone()
            grown.narrow(axis, 1, n).logical_or_(before.narrow(axis, 0, n))
            grown.narrow(axis, 0, n).logical_or_(before.narrow(axis, 1, n))
    return grown


def erode(mask: Tensor, voxels: int) -> Tensor:
    """Shrink a boolean mask [H, W, D] by a number of voxels (cube)."""
    return ~dilate(~mask, voxels)


def main_components(mask: Tensor, share: float = 0.2, min_voxels: int = 1) -> Tensor:
    """Return the connected components of a mask that have at least `share` of the largest one's voxels.

    Args:
        mask: [...] bool of two or three dimensions; voxels touch by their faces.
        share: 0 to 1; 1 leaves the largest alone.
        min_voxels: smaller components don't count at all.

    Returns:
        [n, ...] bool, the largest first; n is 0 for an empty mask.
    """
    labels, count = ndimage.label(_array(mask))
    sizes = np.bincount(labels.reshape(-1), minlength=count + 1)[1:]
    smallest = max(min_voxels, share * sizes.max(initial=0))
    kept = [i for i in np.argsort(-sizes, kind="stable") if sizes[i] >= smallest]
    components = np.stack([labels == i + 1 for i in kept]) if kept else np.zeros((0, *labels.shape), bool)
    return torch.from_numpy(components).to(mask.device)


def _array(mask: Tensor) -> np.ndarray:
    return mask.as_subclass(Tensor).detach().cpu().numpy()
