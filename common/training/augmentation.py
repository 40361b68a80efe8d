"""Random changes of a volume and of what is learnt from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandScaleIntensityd,
    RandSpatialCropd,
)

from ..launch.words import per_axis
from .world_transform import RandWorldTransformd


class Augmentation(Compose):
    """Change the shape of `image` and of the maps beside it alike, in mm, then the image's sharpness, contrast, noise.

    `inside`, where the image was scanned, is one of the maps wherever an item has it. Ranges are wide: few labels
    are of few patients and scanners (docs/few_slices.md).

    Args:
        maps: keys of the maps; those that an item lacks are passed over.
        pixdim: spacing of the voxels, mm.
        nearest: of these, the ones that are not interpolated.
        roi_size: voxels of a random crop; None for the whole volume.
        rotate, scale, stretch, translate, bend, bend_spacing, prob: see `RandWorldTransformd`.
        blur: largest standard deviation of a Gaussian, in voxels of the finest axis, as far in mm along the others; 0
            for none.
        blur_prob: of that.
        contrast: smallest and largest exponent of the intensities.
        brightness: largest relative change of the intensities; 0 for none.
        noise_prob: of Gaussian noise of up to `noise`, in the image's [0, 1].
    """

    def __init__(
        self,
        maps: Sequence[str],
        pixdim: Sequence[float],
        nearest: Sequence[str] = (),
        roi_size: Sequence[int] | None = None,
        rotate: float = 0.5,
        scale: float = 0.3,
        stretch: float = 0.1,
        translate: float | None = None,
        bend: float = 0.0,
        bend_spacing: float = 40.0,
        prob: float = 0.9,
        blur: float = 1.0,
        blur_prob: float = 0.2,
        contrast: Sequence[float] = (0.6, 1.7),
        brightness: float = 0.2,
        noise: float = 0.05,
        noise_prob: float = 0.3,
    ) -> None:
        self._given: dict[str, Any] = {
            "maps": maps, "nearest": nearest, "roi_size": roi_size, "rotate": rotate, "scale": scale,
            "stretch": stretch, "translate": translate, "bend": bend, "bend_spacing": bend_spacing, "prob": prob,
            "blur": blur, "blur_prob": blur_prob, "contrast": contrast, "brightness": brightness, "noise": noise,
            "noise_prob": noise_prob,
        }  # fmt: skip
        keys = ["image", *dict.fromkeys([*maps, "inside"])]
        self.roi_size = per_axis("roi_size", roi_size, whole=True)
        shape = RandWorldTransformd(
            keys,
            pixdim,
            rotate=rotate,
            scale=scale,
            stretch=stretch,
            translate=translate,
            bend=bend,
            bend_spacing=bend_spacing,
            prob=prob,
            mode=["nearest" if key in nearest else "bilinear" for key in keys],
            allow_missing_keys=True,
        )
        crop = None
        if self.roi_size is not None:
            crop = RandSpatialCropd(keys, roi_size=self.roi_size, random_size=False, allow_missing_keys=True)
        softer = None
        if blur:
            x, y, z = ((0.5 * blur * min(pixdim) / p, blur * min(pixdim) / p) for p in pixdim)
            softer = RandGaussianSmoothd("image", prob=blur_prob, sigma_x=x, sigma_y=y, sigma_z=z)
        brighter = RandScaleIntensityd("image", prob=0.5, factors=brightness) if brightness else None
        steps = [
            shape,
            crop,
            softer,
            RandAdjustContrastd("image", prob=0.5, gamma=tuple(contrast)),
            brighter,
            RandGaussianNoised("image", prob=noise_prob, std=noise),
        ]
        super().__init__([step for step in steps if step is not None])

    @property
    def settings(self) -> dict[str, Any]:
        """What is changed and how far, for run.json."""
        return {name: value for name, value in self._given.items() if name not in ("maps", "nearest")}

    def on_voxels_of(self, pixdim: Sequence[float]) -> Augmentation:
        """Return the same changes, in mm, for voxels of another spacing; its random state is new."""
        return Augmentation(pixdim=pixdim, **self._given)
