"""Resampling to a coarser grid without aliasing."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform, Spacingd
from monai.utils import convert_to_dst_type

from ..errors import InputError
from ..imaging.morphology import gaussian_smooth
from .field_of_view import describe_oversize


class AntiAliasd(MapTransform):
    """Smooth each image as far as the step from its spacing to the wanted one needs, before `Spacingd` resamples it.

    MONAI's `Spacingd` interpolates linearly between neighbours, which on a coarser grid drops most voxels; a Gaussian
    of half the wanted spacing (less what the voxel already blurs) stands for the average over the new voxel.
    Images (or one-hot labels) are channel-first MetaTensors; maps of label values must not pass through here.

    Args:
        keys: images to smooth.
        pixdim: wanted spacing in mm, one number an axis.
    """

    def __init__(self, keys: Hashable | Sequence[Hashable], pixdim: Sequence[float], allow_missing_keys: bool = False):
        super().__init__(keys, allow_missing_keys)
        self.pixdim = [float(p) for p in pixdim]

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key]
            spacing = image.pixdim.tolist() if isinstance(image, MetaTensor) else [1.0] * len(self.pixdim)
            # FWHM of one new voxel, less that of one old voxel, as a standard deviation in old voxels
            ratios = [new / old for new, old in zip(self.pixdim, spacing, strict=True)]
            sigma = [0.42 * max(ratio**2 - 1, 0.0) ** 0.5 for ratio in ratios]
            if max(sigma) > 0.05:
                values = image.as_tensor() if isinstance(image, MetaTensor) else image
                # the border value is repeated: zeros from outside would darken it, and take from a one-hot background
                result[key] = convert_to_dst_type(gaussian_smooth(values.float(), sigma), image, dtype=torch.float32)[0]
        return result


class ImageSpacingd(MapTransform):
    """MONAI's `Spacingd` for an item whose other entries it leaves alone.

    MONAI 1.6.1 writes an image's metadata into every entry whose name begins with the image's key, and fails where one
    is no dict: MONAI Label's items have a text `image_path` beside `image`.

    Args:
        keys: images, MetaTensors.
        pixdim: wanted spacing in mm, one number an axis.
        options: of `Spacingd`.

    Raises:
        InputError: an image that would have too many voxels (`describe_oversize`), before any is made.
    """

    def __init__(self, keys: Hashable | Sequence[Hashable], pixdim: Sequence[float], **options: Any) -> None:
        super().__init__(keys)
        self.pixdim = [float(p) for p in pixdim]
        self.spacing = Spacingd(keys, pixdim, **options)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        own = {key: data[key] for key in self.key_iterator(dict(data))}
        for image in own.values():
            problem = describe_oversize(image.shape[1:], image.affine.numpy(), self.pixdim)
            if problem is not None:
                raise InputError(f"{image.meta.get('filename_or_obj', 'the image')}: {problem}")
        return {**data, **self.spacing(own)}
