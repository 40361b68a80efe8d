"""The way to the grid, also where a client has loaded the scan."""

from __future__ import annotations

import nibabel
import numpy as np
import torch
from monai.data import MetaTensor

from common.grid.grid import Grid
from common.grid.preprocessing import ImagePreprocessing


def test_a_client_that_loads_itself_leaves_out_what_loads(tmp_path):
    """MONAI Deploy drops transforms with LoadImage in their names, and gives [H, W, D]."""
    voxels, affine = np.random.default_rng(0).normal(size=(9, 8, 7)).astype(np.float32), np.diag([-2.0, 3, 4, 1])
    nibabel.save(nibabel.Nifti1Image(voxels, affine), tmp_path / "a.nii")
    whole = ImagePreprocessing(Grid((8, 8, 8), (3.0, 3.0, 3.0), (0, 1)))
    wanted = whole({"image": str(tmp_path / "a.nii")})["image"]
    assert wanted.shape == (1, 8, 8, 8)
    rest = [transform for transform in whole.transforms if "LoadImage" not in type(transform).__name__]
    meta = {"affine": torch.as_tensor(affine), "original_affine": affine, "original_channel_dim": "no_channel"}
    item = {"image": MetaTensor(torch.as_tensor(voxels), meta=meta)}
    for transform in rest:
        item = transform(item)
    assert len(rest) == len(whole.transforms) - 1 and torch.equal(item["image"].as_tensor(), wanted.as_tensor())
