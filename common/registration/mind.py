"""MIND-SSC: what a place looks like relative to its surroundings, so that contrast and modality matter little."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional as F

NEIGHBOURS = [(-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0), (0, 0, -1), (0, 0, 1)]
PAIRS = [
    pair for pair in combinations(NEIGHBOURS, 2) if sum((a - b) ** 2 for a, b in zip(*pair, strict=True)) == 2
]  # the 12 of neighbours that touch along an edge
FLAT = 1e-6  # noise below which a place has no structure: an edge that is repeated, the air of a CT


def mind(image: Tensor, radius: int = 1, dilation: int = 2) -> Tensor:
    """Return the MIND-SSC descriptor of an image [B, 1, H, W, D], [B, 12, H, W, D] in [0, 1]; 1 where it is flat.

    How much each two of six neighbours differ, as patches, relative to how much they do on average there (M. P.
    Heinrich et al., "Towards realtime multimodal fusion for image-guided interventions using self-similarities",
    MICCAI 2013).

    Args:
        radius: of a patch, voxels.
        dilation: distance of the neighbours, voxels.
    """
    distance = torch.cat([(_moved(image, a, dilation) - _moved(image, b, dilation)).square() for a, b in PAIRS], dim=1)
    distance = F.avg_pool3d(_padded(distance, radius), 2 * radius + 1, stride=1)
    distance = distance - distance.amin(1, keepdim=True)
    noise = distance.mean(1, keepdim=True)
    typical = noise.mean((1, 2, 3, 4), keepdim=True).clamp_min(FLAT)
    return torch.exp(-distance / torch.minimum(torch.maximum(noise, typical * 1e-3), typical * 1e3))


def _padded(image: Tensor, width: int) -> Tensor:
    return F.pad(image, (width,) * 6, mode="replicate")


def _moved(image: Tensor, direction: tuple[int, ...], distance: int) -> Tensor:
    h, w, d = image.shape[2:]
    i, j, k = (distance * (1 + step) for step in direction)
    return _padded(image, distance)[:, :, i : i + h, j : j + w, k : k + d]
