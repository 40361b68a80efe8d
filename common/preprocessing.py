"""The common grid of a data set, and the smoothing that keeps a coarser grid free of aliasing."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import nibabel
import numpy as np
import torch
from monai.data import MetaTensor
from monai.networks.layers import gaussian_1d, separable_filtering
from monai.transforms import LoadImage, MapTransform, Spacingd
from monai.utils import convert_to_dst_type

from .errors import InputError


def gaussian_smooth(maps: torch.Tensor, sigma: float | Sequence[float]) -> torch.Tensor:
    """Smooth maps [C, H, W, D] with a Gaussian of sigma voxels (one number or one an axis); the border is repeated."""
    kernels = []
    for s in [float(sigma)] * 3 if isinstance(sigma, (int, float)) else sigma:
        kernel = torch.ones(1)
        if s > 0:
            kernel = gaussian_1d(torch.tensor(float(s)), truncated=3.0, approx="sampled", normalize=False)
        kernels.append((kernel / kernel.sum()).to(maps))
    return separable_filtering(maps[:, None], kernels, mode="replicate")[:, 0]


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
    """

    def __init__(self, keys: Hashable | Sequence[Hashable], pixdim: Sequence[float], **options: Any) -> None:
        super().__init__(keys)
        self.spacing = Spacingd(keys, pixdim, **options)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        own = {key: data[key] for key in self.key_iterator(dict(data))}
        return {**data, **self.spacing(own)}


def ras_geometry(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (shape in voxels, spacing in mm) of a volume along the right-left, posterior-anterior and axial axes."""
    if str(path).endswith((".nii", ".nii.gz")):
        header = nibabel.load(path)
        shape, affine = header.shape, header.affine
    else:
        image = LoadImage(image_only=True, ensure_channel_first=False)(path)
        shape, affine = image.shape, np.asarray(image.affine)
    order = np.argsort(nibabel.io_orientation(affine)[:, 0])
    return np.asarray(shape)[order], np.sqrt((affine[:3, :3] ** 2).sum(0))[order]


def plan_grid(
    cases: Sequence[Mapping],
    spatial_size: Sequence[int] | None = None,
    pixdim: Sequence[float] | None = None,
    max_voxels: int = 98304,
    divisor: int = 8,
    model: Mapping[str, Sequence] | None = None,
) -> dict[str, list]:
    """Choose the grid that every volume is brought to, from image headers alone.

    It spans the largest extent of the given cases, with the finest spacing (never finer than the median scan's) at
    which it has about `max_voxels` voxels. What is given is kept.

    Args:
        cases: items with the key `image` (path).
        spatial_size: voxels along the RAS axes, each a multiple of `divisor`; None to choose.
        pixdim: mm; None to choose.
        model: grid of a model whose training goes on (`read_grid`): it is kept. None: a new model.

    Returns:
        {"spatial_size": [H, W, D], "pixdim": [mm, mm, mm]}

    Raises:
        InputError: a size or spacing that is given and not the model's.
    """
    if model is not None:
        wanted = {"spatial_size": spatial_size, "pixdim": pixdim}
        problems = [
            f"{name} is {list(value)}; wanted {list(model[name])} as in models/model.pt, or null: its training goes on"
            for name, value in wanted.items()
            if value is not None and not np.allclose(value, model[name], rtol=1e-3)
        ]
        if problems:
            raise InputError(problems)
        return {name: list(model[name]) for name in wanted}
    geometry = [ras_geometry(case["image"]) for case in cases]
    extent = np.max([shape * spacing for shape, spacing in geometry], axis=0)
    native = np.median([spacing for _, spacing in geometry], axis=0)
    given = pixdim
    if pixdim is None:
        isotropic = (np.prod(extent) / max_voxels) ** (1 / 3)
        pixdim = np.maximum(native, isotropic) if spatial_size is None else np.maximum(native, extent / spatial_size)
    else:
        pixdim = np.asarray(pixdim, dtype=float)
    if spatial_size is None:
        blocks = extent / pixdim / divisor
        # a wanted spacing is kept, and the grid spans all; else the spacing gives way a little
        blocks = np.round(blocks) if given is None else np.ceil(blocks - 1e-6)
        spatial_size = np.maximum(divisor * blocks, 2 * divisor).astype(int)
        pixdim = np.maximum(pixdim, extent / spatial_size) if given is None else pixdim
    return {"spatial_size": [int(n) for n in spatial_size], "pixdim": [round(float(p), 4) for p in pixdim]}
