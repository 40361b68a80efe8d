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
