"""The numbers that a prediction is judged by, on shapes whose values are known."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from common.review.features import image_quantiles, label_features, spread


def test_own_dice_is_that_of_the_expected_mask_and_view_that_of_the_second_answer():
    probability = torch.tensor([0.9, 0.6, 0.4, 0.1]).view(4, 1, 1)
    maps = torch.stack([1 - probability, probability])
    (found,) = label_features(maps, (1, 2, 5), torch.tensor([1, 0, 0, 0]).view(4, 1, 1))
    assert found.own == pytest.approx(2 * 1.5 / (2.0 + 2)) and found.view == pytest.approx(2 / 3)
    assert found.score == pytest.approx(found.own * found.view) and found.volume_ml == pytest.approx(0.02)


def test_a_label_that_is_not_found_has_no_score():
    maps = torch.stack([torch.full((3, 3, 3), 0.8), torch.full((3, 3, 3), 0.2)])
    (found,) = label_features(maps, (1, 1, 1), torch.zeros(3, 3, 3))
    assert found.score == 0 and found.volume_ml == 0


def test_a_ball_is_one_and_a_rod_is_more_whatever_the_voxels():
    axes = torch.meshgrid(torch.arange(40.0), torch.arange(40.0), torch.arange(10.0) * 4, indexing="ij")
    ball = sum((axis - 19.5) ** 2 for axis in axes) <= 15**2
    assert spread(ball, (1, 1, 4), int(ball.sum()) * 4.0) == pytest.approx(1, abs=0.03)
    rod = torch.zeros(40, 8, 8, dtype=torch.bool)
    rod[:, 3:5, 3:5] = True
    assert spread(rod, (1, 1, 1), float(rod.sum())) > 3


def test_quantiles_leave_out_what_was_not_scanned():
    values = torch.zeros(1, 8, 8, 8)
    values[:, :4] = torch.rand(1, 4, 8, 8) * 0.1 + 0.5
    affine = torch.eye(4, dtype=torch.float64)
    image = MetaTensor(values, affine=affine, meta={"original_affine": affine, "spatial_shape": [4, 8, 8]})
    (found,) = image_quantiles(image)
    assert 0.5 <= found[0] <= found[2] <= found[4] <= 0.6
