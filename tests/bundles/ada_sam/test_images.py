"""The volumes that are learnt from, as MONAI caches them."""

from __future__ import annotations

from types import SimpleNamespace

from monai.data import CacheDataset
from monai.transforms import RandomizableTrait

from common.grid.grid import Grid
from support.bundle.path import import_bundle

module = import_bundle("ada_sam", "images")
ImagePreprocessing = import_bundle("ada_sam", "common.grid.preprocessing").ImagePreprocessing


def test_nothing_is_loaded_and_later_all_of_it_is_cached():
    grid = Grid((16, 16, 8), (1, 1, 2), (0, 1))
    cohort = SimpleNamespace(grid=grid, labels={0: "background", 1: "front"}, label_slices={})
    images = module.Images(cohort, ImagePreprocessing(grid, (2, 98)))
    assert isinstance(images, CacheDataset) and len(images) == 0 and images.settings == {"percentiles": [2, 98]}
    # a random transform, and a Compose counts as one, would end what is cached
    assert not any(isinstance(step, RandomizableTrait) for step in images.transform.transforms)


def test_slices_are_other_images_only_where_their_grid_is_another():
    grid = Grid((16, 16, 8), (2, 2, 2), (0, 1), strides=((2, 2, 2),))
    cohort = SimpleNamespace(grid=grid, labels={0: "background", 1: "front"}, label_slices={})
    images = module.Images(cohort, ImagePreprocessing(grid))
    assert module.slice_images(images, ImagePreprocessing(Grid((16, 16, 8), (2, 2, 2), (0, 1)))) is images
    finer = ImagePreprocessing(Grid((32, 32, 8), (1, 1, 2), (0, 1)))
    found = module.slice_images(images, finer)
    assert isinstance(found, module.Images) and found.grid is finer.grid and found.cohort is cohort
