"""The volumes that are learnt from, each with what is known of its slices, and the same on the grid of SAM's slices."""

from __future__ import annotations

from monai.data import CacheDataset
from monai.transforms import Compose

from .cohort import FewSlicesCohort
from .common.grid.preprocessing import ImagePreprocessing
from .common.slices.preprocessing import SlicePreprocessing


class Images(CacheDataset):
    """Cases of a cohort on its grid, `image`, `presence`, `label` and `annotated`; empty until `set_data` loads them.

    Args:
        cohort: see `SlicePreprocessing`.
        preprocessing: of the image.
        num_workers: threads that load.
    """

    def __init__(self, cohort: FewSlicesCohort, preprocessing: ImagePreprocessing, num_workers: int = 2) -> None:
        # flat: MONAI's cache ends at the first transform that could draw, and a Compose is one
        self.cohort, self.grid = cohort, preprocessing.grid
        self.settings = {"percentiles": preprocessing.percentiles}  # for run.json
        steps = [*preprocessing.transforms, *SlicePreprocessing(cohort, masks=True).transforms]
        # presence is a view of its profile along the slices: contiguous, it would weigh P images
        kept = {"copy_cache": False, "as_contiguous": False}
        super().__init__([], Compose(steps), num_workers=num_workers, progress=False, **kept)


def slice_images(images: Images, preprocessing: ImagePreprocessing) -> Images:
    """Return the same cases as another preprocessing brings them to its grid; the given ones where that is theirs."""
    own, other = ((grid.spatial_size, grid.pixdim) for grid in (images.grid, preprocessing.grid))
    if own == other:
        return images
    return Images(images.cohort, preprocessing, images.num_workers)
