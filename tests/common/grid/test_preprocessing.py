"""The way to the grid, also where a client has loaded the scan."""

from __future__ import annotations

from itertools import permutations, product

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.errors import find_input_error
from common.grid.grid import Grid
from common.grid.native import ToNativeGridd
from common.grid.preprocessing import ImagePreprocessing, LabelPreprocessing, WithLabel
from support.data.ellipsoid import affine_of, axes, dice, oblique, truth

CODES = ["".join(code) for lines in permutations(("LR", "PA", "IS")) for code in product(*lines)]


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


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.nan, "2 of 504 voxels are NaN or Inf; wanted finite"),
        (-np.inf, "2 of 504 voxels are NaN or Inf; wanted finite"),
        (None, "every voxel is 3; wanted an image with contrast"),
    ],
)
def test_voxels_that_are_no_image_are_refused_in_a_line_that_names_the_file(tmp_path, value, said):
    voxels = np.full((9, 8, 7), 3, np.int16)
    if value is not None:
        voxels = np.arange(504, dtype=np.float32).reshape(9, 8, 7)
        voxels[4, 4, :2] = value
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(RuntimeError) as error:
        ImagePreprocessing(Grid((8, 8, 8), (3.0, 3.0, 3.0), (0, 1)))({"image": str(tmp_path / "a.nii")})
    found = find_input_error(error.value)
    assert len(found.problems) == 1 and f"a.nii: {said}" in found.problems[0]


@pytest.mark.parametrize("turned", [0, 12])
@pytest.mark.parametrize("codes", CODES)
def test_the_way_there_and_back_is_right_for_all_48_axis_codes(codes, turned, tmp_path):
    size = (33, 30, 27)
    affine = affine_of(oblique(turned) @ axes(codes, (2.5, 3.0, 3.5)), size)
    organ = truth(affine, size)
    nibabel.save(nibabel.Nifti1Image((100 + 400 * organ).astype(np.int16), affine), tmp_path / "image.nii")
    nibabel.save(nibabel.Nifti1Image(7 * organ.astype(np.uint8), affine), tmp_path / "label.nii")
    grid = Grid((32, 32, 32), (3.0, 3.0, 3.0), (0, 7))
    item = ImagePreprocessing(grid)({"image": str(tmp_path / "image.nii")})
    item |= LabelPreprocessing(grid)({"label": str(tmp_path / "label.nii")})
    seen, label = item["image"][0].as_tensor(), item["label"][1].as_tensor()
    assert (seen - label).abs().mean() < 0.01  # both have come to the same place
    assert nibabel.aff2axcodes(item["image"].affine) == ("R", "A", "S")
    found = ToNativeGridd("pred", [0, 7])({"image": item["image"], "pred": torch.stack([1 - seen, seen])})["pred"]
    assert found.shape == (1, *size) and np.allclose(found.affine, affine, atol=1e-5)
    assert set(found.unique().tolist()) == {0, 7}
    assert dice(found[0].numpy() == 7, organ) > 0.95


def test_known_labels_become_classes_to_learn_from_and_a_tensor_to_score_by(tmp_path):
    grid = Grid((8, 8, 8), (1, 1, 1), (0, 2, 5))
    for name, array in (("image", np.random.default_rng(0).random((8, 8, 8))), ("label", np.full((8, 8, 8), 5))):
        nibabel.save(nibabel.Nifti1Image(array.astype(np.float32), np.eye(4)), tmp_path / f"{name}.nii.gz")
    case = {name: str(tmp_path / f"{name}.nii.gz") for name in ("image", "label")}
    assert set(LabelPreprocessing(grid)(dict(case))) == {"image", "label"}
    found = LabelPreprocessing(grid)(case | {"known_labels": [5]})
    assert found["known"].tolist() == [True, False, True] and "known_labels" not in found
    assert WithLabel(ImagePreprocessing(grid))(case | {"known_labels": [5]})["known_labels"].tolist() == [5]
    assert "known_labels" not in WithLabel(ImagePreprocessing(grid))(dict(case))
