"""A network's answer for one scan as probabilities."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.data import MetaTensor
from monai.transforms import MapTransform

from ..levels.windows import to_probabilities


class ToProbabilitiesd(MapTransform):
    """Turn logits [K, H, W, D] into probabilities, as MONAI's `Activationsd` does, which would hold them three times.

    Float32; of more than 1 GB in their own memory and kind of number (`to_probabilities`).
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            logits = result[key]
            logits = logits.as_tensor() if isinstance(logits, MetaTensor) else logits
            result[key] = to_probabilities(logits[None])[0]
        return result
