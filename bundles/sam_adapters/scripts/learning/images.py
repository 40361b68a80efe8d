"""The volumes on the common grid, and on that of the slices; labels of those that have one."""

from __future__ import annotations

import torch
from monai.data import CacheDataset
from monai.transforms import Compose, Lambdad
from torch import Tensor

from ..cohort import SlicedCohort
from ..common.grid.preprocessing import ImagePreprocessing, LabelPreprocessing

UNKNOWN = 255  # in the place of a class, where the scan has no voxel


def to_classes(shares: Tensor) -> Tensor:
    """Turn probabilities [K, H, W, D] into classes [1, H, W, D] uint8; 255 where all of them are 0."""
    known = shares.sum(0, keepdim=True) > 0
    return shares.argmax(0, keepdim=True).to(torch.uint8).masked_fill_(~known, UNKNOWN)


class GridImages(CacheDataset):
    """Cases of a cohort on a grid, `image` and, of labelled ones, `label`; empty until `set_data` loads them.

    `label` is probabilities [K, H, W, D] float32, all of them 0 beyond the scan: on coarse voxels a small structure has
    the largest nowhere. With `classes` it is `to_classes` of these, which weighs little on the fine voxels of slices.

    Args:
        cohort: whose labelled cases have a `label`.
        preprocessing: of the image.
        classes: see above.
        num_workers: threads that load.
    """

    def __init__(
        self, cohort: SlicedCohort, preprocessing: ImagePreprocessing, classes: bool = False, num_workers: int = 2
    ) -> None:
        self.cohort, self.grid = cohort, preprocessing.grid
        self.settings = {"percentiles": preprocessing.percentiles}  # for run.json
        steps = [*preprocessing.transforms, *LabelPreprocessing(preprocessing.grid).transforms]
        if classes:
            steps.append(Lambdad("label", to_classes, allow_missing_keys=True))
        super().__init__([], Compose(steps), num_workers=num_workers, progress=False, copy_cache=False)


def slice_images(images: GridImages, preprocessing: ImagePreprocessing) -> GridImages:
    """Return the same cases as another preprocessing brings them to its grid; the given ones where that is theirs."""
    own, other = ((grid.spatial_size, grid.pixdim) for grid in (images.grid, preprocessing.grid))
    return images if own == other else GridImages(images.cohort, preprocessing, classes=True)
