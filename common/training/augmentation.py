"""Random changes of a volume and of what is learnt from it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.transforms import (
    Compose,
    MapTransform,
    RandAdjustContrastd,
    RandAffined,
    RandGaussianNoised,
    RandScaleIntensityd,
    RandSpatialCropd,
)

from ..launch.words import per_axis
from ..tensors import plain


class JoinInsided(MapTransform):
    """Let `inside` [1, H, W, D] be the image's last channel until `PartInsided`, so that it moves as the image does.

    A key of its own would draw other moves: MONAI's `RandAffined` draws anew for every key that it moves.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        if "inside" in result:
            key = self.first_key(result)
            result[key] = torch.cat([result[key], result["inside"].to(result[key])])
            result["inside"] = None
        return result


class PartInsided(MapTransform):
    """Take `inside` out of an image that `JoinInsided` made it a channel of."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        key = self.first_key(result)
        if "inside" in result:
            result[key], result["inside"] = result[key][:-1], plain(result[key][-1:])
        return result


class Augmentation(Compose):
    """Turn, scale and shift `image` and the maps beside it alike, then change the image's contrast and noise.

    `inside`, where the image was scanned, goes with it wherever an item has it.

    Args:
        maps: keys of the maps; those that an item lacks are passed over.
        nearest: of these, the ones that are not interpolated.
        roi_size: voxels of a random crop; None for the whole volume.
        rotate, scale, translate: largest rotation (radians), relative change of size, and shift (voxels) along an axis.
        prob: of the geometric change.
        contrast: smallest and largest exponent of the intensities.
        brightness: largest relative change of the intensities; 0 for none.
        noise_prob: of Gaussian noise of up to `noise`, in the image's [0, 1].
    """

    def __init__(
        self,
        maps: Sequence[str],
        nearest: Sequence[str] = (),
        roi_size: Sequence[int] | None = None,
        rotate: float = 0.2,
        scale: float = 0.12,
        translate: float = 3,
        prob: float = 0.9,
        contrast: Sequence[float] = (0.7, 1.5),
        brightness: float = 0.2,
        noise: float = 0.05,
        noise_prob: float = 0.3,
    ) -> None:
        keys = ["image", *maps]
        self.roi_size = per_axis("roi_size", roi_size, whole=True)
        self.rotate, self.scale, self.translate, self.prob = rotate, scale, translate, prob
        self.contrast, self.brightness, self.noise, self.noise_prob = contrast, brightness, noise, noise_prob
        mode = ["nearest" if key in nearest else "bilinear" for key in keys]
        affine = RandAffined(
            keys,
            prob=prob,
            rotate_range=[rotate] * 3,
            scale_range=[scale] * 3,
            translate_range=[translate] * 3,
            mode=mode,
            padding_mode="border",
            allow_missing_keys=True,
        )
        crop = None
        if self.roi_size is not None:
            crop = RandSpatialCropd(keys, roi_size=self.roi_size, random_size=False, allow_missing_keys=True)
        brighter = RandScaleIntensityd("image", prob=0.5, factors=brightness) if brightness else None
        steps = [
            JoinInsided("image"),
            affine,
            crop,
            PartInsided("image"),
            RandAdjustContrastd("image", prob=0.5, gamma=tuple(contrast)),
            brighter,
            RandGaussianNoised("image", prob=noise_prob, std=noise),
        ]
        super().__init__([step for step in steps if step is not None])
