"""Slice labels as a volume beside the image, so that no transform can part bits and slices."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor

from ..data.presence import (
    foreground_values,
    read_slice_labels,
)


class AddPresenced(MapTransform):
    """Turn `slice_labels` into the volume `presence` [P, H, W, D] of 0 and 1, float32, constant within a slice.

    It stands right behind `LoadImaged`, where the image's axes are still those of the file. Whatever moves, flips,
    resamples (mode nearest, border padding) or augments the image is to be applied to `presence` too, so that bits and
    slices stay together. An item without slice labels gets nothing; `slice_labels` is taken out of the item.

    Args:
        keys: the image [1, H, W, D], a MetaTensor whose affine and meta `presence` takes.
        labels: values of the labels, or value -> name; 0 is left out.
    """

    def __init__(self, keys: KeysCollection, labels: Iterable[int], allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.labels = dict(labels) if isinstance(labels, Mapping) else foreground_values(labels)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        entry = result.pop("slice_labels", None)
        if entry is None:
            return result
        image = result[self.first_key(result)]
        shape = tuple(image.shape[1:])
        found = read_slice_labels(entry, shape, self.labels, str(result.get("case", "image")))
        in_plane = tuple(axis + 1 for axis in range(3) if axis != found.axis)
        bits = torch.from_numpy(np.expand_dims(found.bits, in_plane)).float()  # [P, n, 1, 1] with n at its axis
        presence = bits.expand(-1, *shape).contiguous()  # [P, H, W, D]
        meta = dict(image.meta) if isinstance(image, MetaTensor) else {}
        result["presence"] = MetaTensor(presence, meta=meta)
        return result


def slice_bits(presence: Tensor, slice_axis: int) -> Tensor:
    """Return the bits [P, n] bool of a presence volume [P, H, W, D] along `slice_axis` (0, 1, 2); also for batches.

    A slice that a rotation has mixed is positive where more than half of it is.

    Returns:
        [..., P, n] for presence [..., P, H, W, D].
    """
    presence = presence.as_subclass(Tensor)
    in_plane = [axis - 3 for axis in range(3) if axis != slice_axis]
    return presence.float().mean(in_plane) > 0.5
