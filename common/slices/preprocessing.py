"""Bits and masks of slices on the grid of their volume, as MONAI's transforms."""

from __future__ import annotations

from typing import Any

from monai.transforms import (
    Compose,
    CopyItemsd,
    DeleteItemsd,
    Orientationd,
    ResizeWithPadOrCropd,
    Spacingd,
)

from ..volumes.image_reader import LoadImageVolumed
from .masked_slices import AddLabelSlicesd
from .presence_volume import AddPresenced

SCAN = "scan"


class SlicePreprocessing(Compose):
    """What is known of a case's slices, on its grid: `presence` [P, H, W, D], and with masks `label` and `annotated`.

    It stands before `ImagePreprocessing`, where `image` is still a path: bits and masks count the slices of the file.

    Args:
        cohort: has `grid`, `labels`, and, where `masks`, `label_slices`.
        masks: add the masks of the labelled slices, `label` (class index) and `annotated` (1 on these slices), both
            [1, H, W, D].
    """

    def __init__(self, cohort: Any, masks: bool = False) -> None:
        grid, keys = cohort.grid, ["presence", "label", "annotated"] if masks else ["presence"]
        added = [AddLabelSlicesd(SCAN, grid.label_values, cohort.label_slices, grid.pixdim)] if masks else []
        super().__init__(
            [
                CopyItemsd("image", times=1, names=SCAN),
                LoadImageVolumed(SCAN),
                *added,
                AddPresenced(SCAN, cohort.labels),
                DeleteItemsd(SCAN),
                Orientationd(keys, axcodes="RAS", labels=None),
                Spacingd(keys, grid.pixdim, mode="nearest", padding_mode="border"),
                ResizeWithPadOrCropd(keys, grid.spatial_size, mode="edge"),
            ]
        )
