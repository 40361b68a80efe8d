"""What each SAM family member does to a grey image before its encoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class Preprocessing:
    """Grey slices in [0, 1] to the encoder's input, in the way the authors of the weights published.

    Resampling is bilinear with antialiasing for all (published: PIL bilinear for SAM, OpenCV area for LiteMedSAM,
    cubic for MedSAM), without rounding to 8 bit.

    Args:
        image_size: side of the encoder's square input, pixels.
        min_max: each slice is scaled to its own [0, 1] (a constant slice becomes 0).
        mean, std: subtracted and divided by, on the 0-255 scale; None leaves [0, 1].
        keep_aspect: the longest side becomes `image_size` and zeros fill the rest at the bottom and right; else both
            sides become `image_size`.
    """

    image_size: int
    min_max: bool = False
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    keep_aspect: bool = True

    def resized_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the rows and columns that an image of height x width fills in the square input."""
        if not self.keep_aspect:
            return self.image_size, self.image_size
        scale = self.image_size / max(height, width)
        return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))

    def __call__(self, slices: Tensor) -> Tensor:
        """Turn slices [N, 1 or 3, H, W] float in [0, 1] into [N, 3, image_size, image_size].

        Three channels (a slice and its neighbours) are scaled together.
        """
        rows, columns = self.resized_size(*slices.shape[-2:])
        if slices.shape[-2:] != (rows, columns):
            slices = F.interpolate(slices, (rows, columns), mode="bilinear", align_corners=False, antialias=True)
        if self.min_max:
            low, high = slices.amin((1, 2, 3), keepdim=True), slices.amax((1, 2, 3), keepdim=True)
            slices = (slices - low) / (high - low).clamp_min(1e-8)
        image = slices.expand(-1, 3, -1, -1)
        if self.mean is not None:
            mean, std = (image.new_tensor(value).view(3, 1, 1) for value in (self.mean, self.std))
            image = (image * 255 - mean) / std
        # the padding is zero after the normalisation, as published
        return F.pad(image, (0, self.image_size - columns, 0, self.image_size - rows))
