"""Augmented copies of a slice and its mask, so that a decoder can be trained with augmentation on frozen features."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import torch
from monai.transforms import Compose, RandAdjustContrastd, RandAffined, RandGaussianNoised
from torch import Tensor

ROTATION = math.radians(20)
SCALE = 0.2
GAMMA = (0.7, 1.5)
NOISE = 0.03


@dataclass(frozen=True)
class SliceView:
    """What the encoder is given of a slice, [1 or 3, rows, columns] in [0, 1], and its mask [rows, columns] int64."""

    planes: Tensor
    mask: Tensor


def view_transform(rotation: float = ROTATION, scale: float = SCALE) -> Compose:
    """Return the random transform of {"planes" [C, rows, columns], "mask" [1, rows, columns]}: rotation up to
    `rotation` radians, scale 1 -+ `scale`, gamma, noise. No flips: left and right are told apart.
    """
    return Compose(
        [
            RandAffined(
                ["planes", "mask"],
                prob=1.0,
                rotate_range=rotation,
                scale_range=(scale, scale),
                mode=("bilinear", "nearest"),
                padding_mode="border",
            ),
            RandAdjustContrastd("planes", prob=0.7, gamma=GAMMA),
            RandGaussianNoised("planes", prob=0.5, std=NOISE),
        ]
    )


def augment(transform: Compose, planes: Tensor, mask: Tensor) -> SliceView:
    """Return one random view of a slice; the transform's own random state decides which."""
    done = transform({"planes": planes, "mask": mask[None].float()})
    planes, mask = (done[key].as_subclass(Tensor) for key in ("planes", "mask"))
    return SliceView(planes.clamp(0, 1), mask[0].round().long())


def make_views(planes: Tensor, mask: Tensor, count: int, *seed: object) -> list[SliceView]:
    """Return `count` views of a slice, equal for equal seeds in every run.

    Args:
        planes: [1 or 3, rows, columns] in [0, 1]; all channels are moved alike.
        mask: [rows, columns] int64.
        seed: whatever tells one slice from another, such as a number, the case and the index.
    """
    transform, views = view_transform(), []
    for number in range(count):
        digest = hashlib.sha256("/".join(map(str, (*seed, number))).encode()).digest()
        transform.set_random_state(seed=int.from_bytes(digest[:4], "little"))
        views.append(augment(transform, planes, mask))
    return views


def stack_planes(views: list[SliceView]) -> Tensor:
    """Return what the encoder is given, [V, 1 or 3, rows, columns]."""
    return torch.stack([view.planes for view in views])
