"""Domain-randomised copies: what a training item becomes now and then, so that a network relies on shape alone."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import (
    Compose,
    MapTransform,
    RandBiasFieldd,
    RandGaussianSmoothd,
    RandomizableTransform,
    ScaleIntensityRangePercentiles,
)
from torch.nn import functional as F

from ..tensors import plain
from ..training.world_transform import RandWorldTransformd
from .contrasts import RandContrastsd
from .field_of_view import RandFieldOfViewd

THICKEST = 8.0  # mm, slices as clinical MR has them
BEND, BEND_SPACING, STRETCH = 10.0, 50.0, 0.15  # mm, mm, and relative: what one body is bent into others by


class RandThickSlicesd(RandomizableTransform, MapTransform):
    """Blur an image [C, H, W, D] along one random axis, as slices of up to `thickest` mm do.

    Args:
        keys: images.
        pixdim: spacing of the voxels, mm; an axis that is as coarse stays as it is.
    """

    def __init__(
        self, keys: KeysCollection, pixdim: Sequence[float], thickest: float = THICKEST, prob: float = 0.5
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.pixdim, self.thickest = [float(p) for p in pixdim], thickest

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        self.randomize(None)
        axis = int(self.R.randint(3))
        spacing = self.pixdim[axis]
        if not self._do_transform or spacing >= self.thickest:
            return result
        thickness = self.R.uniform(spacing, self.thickest)
        for key in self.key_iterator(result):
            image = plain(result[key])[None]
            size = list(image.shape[2:])
            fewer = [max(round(n * spacing / thickness), 1) if a == axis else n for a, n in enumerate(size)]
            thick = F.interpolate(image, size=fewer, mode="area")
            result[key] = F.interpolate(thick, size=size, mode="trilinear", align_corners=False)[0]
        return result


class RandomisedCopyd(RandomizableTransform, MapTransform):
    """Turn a share of the items into copies of random contrast, bias field, blur, resolution, shape and field of view.

    The image is scaled to its own 1st to 99th percentile in the end, as a scan of any modality is when it is
    segmented: a network that learns from these wants percentiles, not one range of intensities.

    Args:
        keys: the image, [C, H, W, D] in [0, 1].
        label: key of its label, see `RandContrastsd`.
        pixdim: spacing of the voxels, mm.
        classes: of a label [1, H, W, D] of classes, background included; None: it is [K, H, W, D] probabilities.
        prob: share of the items.
        field_of_view: also other fields of view, which a label of classes has none of: it is of a patch.
    """

    def __init__(
        self,
        pixdim: Sequence[float],
        keys: KeysCollection = "image",
        label: str = "label",
        classes: int | None = None,
        prob: float = 0.5,
        field_of_view: bool = True,
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.label, self.classes = label, classes
        blur = max(THICKEST / 4, min(pixdim))  # mm
        x, y, z = ((0.0, blur / p) for p in pixdim)
        steps: list[Any] = [
            RandContrastsd(keys, label, classes),
            RandBiasFieldd(keys, prob=0.5, degree=3, coeff_range=(-0.15, 0.15)),
            RandGaussianSmoothd(keys, prob=0.5, sigma_x=x, sigma_y=y, sigma_z=z),
            RandThickSlicesd(keys, pixdim),
        ]
        both = [*self.keys, label]
        modes = ["bilinear" if classes is None or key != label else "nearest" for key in both]
        shape = RandWorldTransformd(
            both, pixdim, rotate=0.0, scale=0.0, translate=0.0, stretch=STRETCH, bend=BEND, bend_spacing=BEND_SPACING,
            mode=modes,
        )  # fmt: skip
        steps.insert(0, shape)
        if field_of_view and classes is None:
            steps.insert(0, RandFieldOfViewd(keys, label))
        self.change = Compose(steps)

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> RandomisedCopyd:
        """Seed what it draws and, from that, what its parts draw."""
        super().set_random_state(seed, state)
        self.change.set_random_state(seed=int(self.R.randint(2**32, dtype=np.uint32)))
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        self.randomize(None)
        if not self._do_transform:
            return dict(data)
        label = plain(data[self.label])
        result = self.change({**data, self.label: label if self.classes else label.float()})
        result[self.label] = plain(result[self.label]).to(label.dtype)
        scale = ScaleIntensityRangePercentiles(1, 99, 0.0, 1.0, clip=True, channel_wise=True)
        for key in self.key_iterator(result):
            image = plain(result[key]).float()
            result[key] = plain(torch.as_tensor(scale(image))).float()
        return result
