"""Tensors without what only some of their readers want: metadata, another device, another size."""

from __future__ import annotations

from typing import Any

import torch
from monai.data import MetaTensor
from torch import Tensor
from torch.nn import functional as F

from .errors import InputError

ALL_KNOWN = 0.99  # half precision parts a sum of probabilities from 1, too


def plain(tensor: Tensor) -> Tensor:
    """Return a MetaTensor's values as a plain tensor."""
    return tensor.as_tensor() if hasattr(tensor, "as_tensor") else tensor


def grey(image: Tensor, channel: int | None = None) -> Tensor:
    """Return one channel of images [..., C, H, W, D], for whatever sees grey alone: [..., 1, H, W, D].

    A SAM, a registration's similarity and what compares intensities ask it; an image of one channel is that channel.

    Args:
        channel: which; None: the mean of all.

    Raises:
        InputError: no such channel.
    """
    count = image.shape[-4]
    if channel is None:
        return image if count == 1 else image.mean(-4, keepdim=True)
    if not 0 <= channel < count:
        raise InputError(f"sam_channel is {channel}; wanted 0 to {count - 1}, or null for the mean of all channels")
    return image.narrow(-4, channel, 1)


def to_plain(value: Any, device: torch.device) -> Any:
    """Return a tensor on the device without MONAI's metadata, which costs time in every operation; else the value."""
    if not torch.is_tensor(value):
        return value
    return (value.as_tensor() if isinstance(value, MetaTensor) else value).to(device, non_blocking=True)


def known_share(label: Tensor, axis: int = 1) -> Tensor:
    """Return how far a label's voxels are known: the sum over its classes, [B, K, ...] -> [B, 1, ...] float32.

    Outside the scan all classes are 0. Where rounding alone parts the sum from 1 it is 1.
    """
    share = label.float().sum(axis, keepdim=True)
    return torch.where(share > ALL_KNOWN, 1.0, share)


def mean_where(values: Tensor, share: Tensor | None) -> Tensor:
    """Return the mean of values [B, C, ...] over the voxels that count, by their share [B, 1, ...]; None: all."""
    if share is None:
        return values.mean()
    share = share.to(values)
    return (values * share).mean() / share.mean().clamp_min(1e-6)


def unless_all(share: Tensor) -> Tensor | None:
    """Return the share to which voxels count; None where all of them do, as for whoever needs no mask then."""
    return None if bool((share == 1).all()) else share


def background_beyond(probabilities: Tensor, inside: Tensor) -> Tensor:
    """Return probabilities [B, K, ...] that are all of the background, the first class, where `inside` [B, 1, ...] is
    0."""
    inside = inside.to(probabilities.device) > 0.5
    nothing = torch.zeros_like(probabilities)
    nothing[:, 0] = 1.0
    return torch.where(inside, probabilities, nothing)


def match_grid(features: Tensor, spatial_size: torch.Size | tuple[int, ...]) -> Tensor:
    """Average (where finer) or interpolate (where coarser) features [B, C, ...] to a grid."""
    coarser = [min(have, want) for have, want in zip(features.shape[2:], spatial_size, strict=True)]
    features = F.adaptive_avg_pool3d(features, coarser)
    if list(features.shape[2:]) != list(spatial_size):
        features = F.interpolate(features, size=tuple(spatial_size), mode="trilinear", align_corners=False)
    return features
