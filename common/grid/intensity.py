"""Intensities in [0, 1], measured inside what was scanned."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, ScaleIntensityRange, ScaleIntensityRangePercentiles, percentile
from monai.utils import convert_to_dst_type

from ..imaging.morphology import dilate, erode
from ..imaging.scanned import find_padding
from ..tensors import plain


class ScaleScannedPercentilesd(MapTransform):
    """MONAI's `ScaleIntensityRangePercentilesd` to [0, 1], clipped, with percentiles of the voxels that were scanned.

    However much padding or empty margin a volume has, its tissue then gets the same intensities. What was not scanned
    (`find_padding`) becomes 0, as air is. A volume without any gets what MONAI's transform gives, to the last bit; so
    does one whose percentiles inside are equal, as in a phantom of two values.

    Args:
        keys: images [1, H, W, D].
        lower, upper: percentiles that become 0 and 1.
    """

    def __init__(self, keys: KeysCollection, lower: float, upper: float, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.lower, self.upper = lower, upper
        self.whole = ScaleIntensityRangePercentiles(lower, upper, b_min=0.0, b_max=1.0, clip=True)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self._scale(result[key])
        return result

    def _scale(self, image: torch.Tensor) -> torch.Tensor:
        values = plain(image)
        array = values[0].cpu().numpy()
        padding = find_padding(array)
        if padding is None:
            return self.whole(image)
        outside = torch.from_numpy(padding)[None].to(values.device)
        inside = torch.from_numpy(array[~padding])
        low, high = (float(percentile(inside, q)) for q in (self.lower, self.upper))
        if low == high:
            return self.whole(image)
        scaled = plain(ScaleIntensityRange(low, high, b_min=0.0, b_max=1.0, clip=True)(values))
        if ((scaled > 0) & outside).any():
            # tissue of the padding's very value that touches it stays: it is no solid block
            solid = dilate(erode(outside[0], 1), 1)[None] | (values > inside.max().item())
            scaled = scaled.masked_fill(outside & solid, 0.0)
        return convert_to_dst_type(scaled, image)[0]
