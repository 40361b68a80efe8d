"""Random fields of view: a scan as if less of the body had been scanned."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from torch import Tensor

from ..grid.field_of_view import filled_box
from ..tensors import plain

WHOLE = 0.7  # share of the draws in which structures stay in view as far as they fit


class RandFieldOfViewd(RandomizableTransform, MapTransform):
    """Keep a random box of what was scanned, in the middle of the grid, where a shorter scan comes to lie.

    Beyond the box the image repeats its edge, as on the way to a grid, and nothing is known. Where the label shows
    structures all of them stay in view in most draws, as far as the box has room for them, and some of them in any: a
    scan is made to show what it is read for.

    Args:
        keys: the image, [C, H, W, D].
        label: key of [K, H, W, D] probabilities, all 0 where the grid goes on beyond the scan.
        least: smallest share of what was scanned that is kept along each axis.
        prob: of the change.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        label: str = "label",
        least: Sequence[float] = (0.9, 0.9, 0.35),
        prob: float = 0.5,
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.label, self.least = label, tuple(least)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return result
        label = plain(result[self.label])
        scanned = filled_box(label.sum(0) > 0.5)
        if scanned is None:
            return result
        structures = filled_box(label[1:].sum(0) > 0.5) or scanned
        box = [self.draw(*axis) for axis in zip(scanned, structures, self.least, strict=True)]
        size = tuple(label.shape[1:])
        places = [centred(part, n) for part, n in zip(box, size, strict=True)]
        for key in self.key_iterator(result):
            result[key] = _at(plain(result[key]), [place for place, _ in places])
        moved = _at(label, [place for place, _ in places])
        for axis, (_, known) in enumerate(places, start=1):
            moved = moved * known.view([-1 if a == axis else 1 for a in range(4)]).to(moved)
        result[self.label] = moved
        return result

    def draw(self, scanned: slice, structures: slice, least: float) -> slice:
        """Return a random part of an axis that has some of the structures in it."""
        length = scanned.stop - scanned.start
        kept = max(round(length * self.R.uniform(least, 1.0)), 1)
        whole = self.R.random() < WHOLE
        begin, end = structures.start, structures.stop
        starts = [begin, end - kept] if whole else [begin - kept + 1, end - 1]
        first, last = (min(max(start, scanned.start), scanned.stop - kept) for start in sorted(starts))
        start = int(self.R.randint(first, last + 1))
        return slice(start, start + kept)


def centred(part: slice, size: int) -> tuple[Tensor, Tensor]:
    """Return where each voxel of an axis comes from when a part of it comes to its middle, and whether it is of it."""
    length = part.stop - part.start
    source = torch.arange(size) - (size - length) // 2
    return part.start + source.clamp(0, length - 1), (source >= 0) & (source < length)


def _at(volume: Tensor, places: Sequence[Tensor]) -> Tensor:
    x, y, z = places
    return volume[:, x][:, :, y][:, :, :, z]
