from __future__ import annotations

import dataclasses

import nibabel
import numpy as np
import pytest
import torch
from torch import nn

from common.errors import InputError
from common.grid.grid import Grid, make_grid, read_grid
from common.grid.network import BodyNetwork
from common.grid.plan import plan_grid, ras_geometry

VALUES = (0, 1)


def volume(path, shape, spacing, flip=False):
    affine = np.diag([*spacing, 1.0])
    if flip:  # stored as inferior-anterior-left, say: first array axis is axial
        affine = affine[:, [2, 1, 0, 3]] * np.array([-1, -1, -1, 1])
        shape, affine = shape[::-1], affine
    nibabel.save(nibabel.Nifti1Image(np.zeros(shape, np.float32), affine), path)
    return {"image": str(path)}


def test_grid_travels_in_the_model_file(tmp_path):
    default = {"spatial_size": [8, 8, 8], "pixdim": [1.0, 1.0, 1.0], "label_values": [0, 1]}
    assert read_grid(None, default).as_dict() == default
    assert read_grid(str(tmp_path / "model.pt"), default).as_dict() == default
    grid = {"spatial_size": [16, 24, 8], "pixdim": [1.25, 0.9766, 5.0], "label_values": [0, 3, 500]}
    torch.save({name: torch.tensor([float(v) for v in value]) for name, value in grid.items()}, tmp_path / "model.pt")
    found = read_grid(str(tmp_path / "model.pt"), default)
    assert found.as_dict() == grid and found == make_grid(**grid)


def test_ranges_travel_in_the_model_file(tmp_path):
    grid = make_grid((8, 8, 8), (1, 1, 1), VALUES, intensity_range=[(-160.1234567, 240.3), None, (0, 65535)])
    assert grid.intensity_range == ((-160.123, 240.3), None, (0, 65535)) and grid.channels == 3
    torch.save(BodyNetwork(nn.Identity(), **grid.as_dict()).state_dict(), tmp_path / "model.pt")
    assert read_grid(str(tmp_path / "model.pt"), {}) == grid
    assert make_grid((8, 8, 8), (1, 1, 1), VALUES).intensity_range == (None,)
    for wrong in ([], [(1, 1)], [(2, 1)]):
        with pytest.raises(ValueError, match="wanted two ascending numbers a channel"):
            make_grid((8, 8, 8), (1, 1, 1), VALUES, intensity_range=wrong)


def test_a_model_whose_training_goes_on_keeps_its_ranges(tmp_path):
    case = volume(tmp_path / "a.nii.gz", (16, 16, 16), (1, 1, 1))
    model = make_grid((8, 8, 8), (1, 1, 1), VALUES, intensity_range=[(-100, 200)])
    assert plan_grid([case], VALUES, model=model).intensity_range == ((-100, 200),)
    assert plan_grid([case], VALUES, intensity_range=[(-100, 200)], model=model).intensity_range == ((-100, 200),)
    with pytest.raises(InputError) as caught:
        plan_grid([case], VALUES, intensity_range=[None], model=model)
    assert caught.value.problems == [
        "intensity_range is [None]; wanted [[-100.0, 200.0]] as in models/model.pt, or null: its training goes on"
    ]


def test_a_grid_is_what_it_was_made_as():
    grid = make_grid((16, 16.0, 8), (1, 0.97656, 2.5), (0, 1))
    assert repr(grid.as_dict()) == "{'spatial_size': [16, 16, 8], 'pixdim': [1.0, 0.9766, 2.5], 'label_values': [0, 1]}"
    with pytest.raises(dataclasses.FrozenInstanceError):
        grid.pixdim = (1, 1, 1)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"spatial_size": (16, 0, 16)}, r"spatial_size is \[16, 0, 16\]; wanted voxels above 0"),
        ({"pixdim": (1, -1, 1)}, r"pixdim is .*; wanted millimetres above 0"),
        ({"label_values": (0,)}, r"label_values is \[0\]; wanted the background and at least one more"),
    ],
)
def test_what_is_no_grid(wrong, text):
    with pytest.raises(ValueError, match=text):
        Grid(**{"spatial_size": (8, 8, 8), "pixdim": (1, 1, 1), "label_values": (0, 1)} | wrong)


def test_ras_geometry_of_any_storage_order(tmp_path):
    for name, flip in (("a.nii.gz", False), ("b.nii", True)):
        case = volume(tmp_path / name, (10, 20, 30), (1.0, 2.0, 3.0), flip)
        shape, spacing = ras_geometry(case["image"])
        assert shape.tolist() == [10, 20, 30]
        np.testing.assert_allclose(spacing, [1, 2, 3])


def test_the_planned_grid_spans_the_largest_extent(tmp_path):
    cases = [volume(tmp_path / "a.nii", (40, 30, 20), (1, 1, 2)), volume(tmp_path / "b.nii", (30, 50, 20), (1, 1, 1))]
    grid = plan_grid(cases, VALUES, max_voxels=16 * 24 * 16)
    size, pixdim = np.array(grid.spatial_size), np.array(grid.pixdim)
    assert np.all(size % np.prod(grid.strides, axis=0) == 0) and np.all(size * pixdim >= np.array([40, 50, 40]) - 1e-2)
    assert 0.5 < size.prod() / (16 * 24 * 16) < 1.5


def test_the_spacing_is_never_finer_than_the_scans(tmp_path):
    grid = plan_grid([volume(tmp_path / "a.nii", (32, 32, 16), (1, 1, 3))], VALUES, max_voxels=10**9)
    assert grid == Grid((32, 32, 16), (1, 1, 3), VALUES, ((2, 2, 1), (2, 2, 2), (2, 2, 2)))


def test_what_is_given_is_kept(tmp_path):
    cases = [volume(tmp_path / "a.nii", (50, 50, 50), (1, 1, 1))]
    assert plan_grid(cases, VALUES, [16, 24, 32], [3.0, 2.0, 2.0]) == make_grid(
        (16, 24, 32), (3, 2, 2), VALUES, ((2, 2, 2), (2, 2, 2), (1, 1, 2))
    )
    grid = plan_grid(cases, VALUES, pixdim=[2.1, 1.5, 3.0])
    assert grid.spatial_size == (24, 40, 20) and grid.pixdim == (2.1, 1.5, 3)  # all 50 mm are inside
    assert plan_grid(cases, VALUES, spatial_size=[16, 24, 32]).pixdim == (3.125, 2.0833, 1.5625)


def test_a_tiny_volume_gets_two_blocks_an_axis(tmp_path):
    assert plan_grid([volume(tmp_path / "a.nii", (4, 4, 4), (1, 1, 1))], VALUES).spatial_size == (16, 16, 16)


def test_the_grid_of_a_model_is_kept():
    model = make_grid((16, 16, 8), (1, 1, 2), (0, 1))
    grid = plan_grid([], (0, 5), model=model)
    assert grid == Grid((16, 16, 8), (1, 1, 2), (0, 5))
    assert plan_grid([], (0, 5), spatial_size=[16, 16, 8], model=model) == grid
    with pytest.raises(InputError, match=r"pixdim is \[2, 2, 2\]; wanted \[1.0, 1.0, 2.0\] as in models/model.pt"):
        plan_grid([], (0, 5), pixdim=[2, 2, 2], model=model)
