"""The volumes that are learnt from, as MONAI caches them."""

from __future__ import annotations

from types import SimpleNamespace

import nibabel
import numpy as np
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


def test_bits_of_many_structures_weigh_next_to_nothing(tmp_path):
    values = np.random.default_rng(0).random((16, 16, 8)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii.gz")
    names = {value: f"label {value}" for value in range(14)}
    grid = Grid((16, 16, 8), (1, 1, 1), tuple(names))
    cohort = SimpleNamespace(grid=grid, labels=names, label_slices={})
    bits = {"axis": 2, "labels": {str(value): [0, 1] * 4 for value in range(1, 14)}}
    images = module.Images(cohort, ImagePreprocessing(grid))
    images.set_data([{"case": "a", "image": str(tmp_path / "a.nii.gz"), "slice_labels": bits}])
    presence = images[0]["presence"]
    assert presence.shape == (13, 16, 16, 8) and float(presence.mean()) == 0.5
    assert presence.untyped_storage().nbytes() <= 13 * 8 * 4
