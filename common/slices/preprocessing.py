"""Bits and masks of slices on the grid of their volume, as MONAI's transforms."""

from __future__ import annotations

from typing import Any

from monai.transforms import Compose

from .masked_slices import AddLabelSlicesd
from .presence_volume import AddPresenced


class SlicePreprocessing(Compose):
    """What is known of a case's slices, on its grid: `presence` [P, H, W, D], and with masks `label` and `annotated`.

    It stands behind `ImagePreprocessing`: bits and masks count the slices of the file, and the image on the grid knows
    where in its file it lies.

    Args:
        cohort: has `grid`, `labels`, and, where `masks`, `label_slices`.
        masks: add the masks of the labelled slices, `label` (class index) and `annotated` (1 on these slices), both
            [1, H, W, D].
    """

    def __init__(self, cohort: Any, masks: bool = False) -> None:
        added = [AddLabelSlicesd("image", cohort.grid.label_values, cohort.label_slices)] if masks else []
        super().__init__([*added, AddPresenced("image", cohort.labels)])
