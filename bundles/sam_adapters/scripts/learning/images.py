"""The volumes on the common grid, and on that of the slices; labels of those that have one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.data import CacheDataset
from monai.transforms import Compose, MapTransform

from ..cohort import SlicedCohort
from ..common.grid.preprocessing import ImagePreprocessing, LabelPreprocessing
from ..common.tensors import plain

UNKNOWN = 255  # in the place of a class, where the scan has no voxel


class ToClassesd(MapTransform):
    """Turn the probabilities `label` [K, H, W, D] into classes [1, H, W, D] uint8; 255 where all of them are 0."""

    def __init__(self) -> None:
        super().__init__(["label"], allow_missing_keys=True)

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            shares = plain(result[key])
            known = shares.sum(0, keepdim=True) > 0
            result[key] = shares.argmax(0, keepdim=True).to(torch.uint8).masked_fill_(~known, UNKNOWN)
        return result


class GridImages(CacheDataset):
    """Cases of a cohort on a grid, `image` and, of labelled ones, `label`; empty until `set_data` loads them.

    `label` is classes [1, H, W, D] uint8, 255 beyond the scan.

    Args:
        cohort: whose labelled cases have a `label`.
        preprocessing: of the image.
        num_workers: threads that load.
    """

    def __init__(self, cohort: SlicedCohort, preprocessing: ImagePreprocessing, num_workers: int = 2) -> None:
        self.cohort, self.grid = cohort, preprocessing.grid
        self.settings = {"percentiles": preprocessing.percentiles}  # for run.json
        steps = [*preprocessing.transforms, *LabelPreprocessing(preprocessing.grid).transforms, ToClassesd()]
        super().__init__([], Compose(steps), num_workers=num_workers, progress=False, copy_cache=False)


def slice_images(images: GridImages, preprocessing: ImagePreprocessing) -> GridImages:
    """Return the same cases as another preprocessing brings them to its grid; the given ones where that is theirs."""
    own, other = ((grid.spatial_size, grid.pixdim) for grid in (images.grid, preprocessing.grid))
    return images if own == other else GridImages(images.cohort, preprocessing, images.num_workers)
