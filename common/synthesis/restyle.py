"""One scan in the intensities of another: their distribution, or what of them varies slowly over the volume."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

LEVELS = 129  # quantiles that a distribution is taken by
LOW = 0.06  # share of the spectrum along each axis, on both sides of its middle, that is exchanged


def match_histogram(image: Tensor, style: Tensor, inside: Tensor, style_inside: Tensor) -> Tensor:
    """Return an image whose intensities are distributed as another's, channel by channel, by quantiles.

    Args:
        image, style: [C, H, W, D], real.
        inside, style_inside: [1, H, W, D] bool, what was scanned of each; nothing else is counted.

    Returns:
        [C, H, W, D] float32; the image itself where one of both has nothing inside.
    """
    if not bool(inside.any()) or not bool(style_inside.any()):
        return image.float()
    shares = np.linspace(0, 1, LEVELS)
    matched = []
    for one, other in zip(image, style, strict=True):
        own, wanted = (np.quantile(v[w[0]].numpy(), shares) for v, w in ((one, inside), (other, style_inside)))
        levels, first = np.unique(own, return_index=True)
        # many voxels of one value, as air is, take the middle of what they are matched with
        last = np.append(first[1:], LEVELS) - 1
        matched.append(np.interp(one.numpy(), levels, (wanted[first] + wanted[last]) / 2))
    return torch.from_numpy(np.stack(matched).astype(np.float32))


def exchange_amplitude(image: Tensor, style: Tensor, share: float = LOW) -> Tensor:
    """Return an image with the low-frequency amplitudes of another and its own phase, in [0, 1] (FDA, Yang 2020).

    Args:
        image, style: [C, H, W, D] in [0, 1], one grid.
        share: of the spectrum along each axis, on both sides of its middle.
    """
    axes, size = (1, 2, 3), image.shape[1:]
    own, other = (torch.fft.fftn(volume.float(), dim=axes) for volume in (image, style))
    low = torch.ones(size, dtype=torch.bool)
    for axis, n in enumerate(size):
        near = torch.fft.fftfreq(n).abs() <= share
        low &= near.view([-1 if a == axis else 1 for a in range(3)])
    amplitude = torch.where(low, other.abs(), own.abs())
    return torch.fft.ifftn(torch.polar(amplitude, own.angle()), dim=axes).real.clamp(0.0, 1.0)
