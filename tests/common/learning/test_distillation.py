from __future__ import annotations

import pytest
import torch

from common.learning.distillation import FeatureDistillation
from common.learning.light_unet import LightEncoder
from common.tensors import match_grid


def test_loss_falls_on_a_fixed_batch():
    torch.manual_seed(0)
    encoder, distillation = LightEncoder(channels=(4, 8), strides=(2, 2)), FeatureDistillation(8, 16)
    image, teacher = torch.rand(2, 1, 16, 16, 16), torch.randn(2, 16, 4, 4, 4)
    optimizer = torch.optim.Adam([*encoder.parameters(), *distillation.parameters()], lr=0.01)
    losses = []
    for _ in range(40):
        loss = distillation(encoder(image)[-1], teacher)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_loss_is_the_elementwise_mean_square_of_standardised_features():
    distillation = FeatureDistillation(2, 3)
    distillation.standardise_by([torch.full((3, 1, 1, 1), 1.0), torch.full((3, 1, 1, 1), 5.0)])  # mean 3, deviation 2
    student, teacher = torch.rand(1, 2, 2, 2, 2), torch.full((1, 3, 2, 2, 2), 7.0)
    wanted = (distillation.project(student) - 2).square().mean()
    torch.testing.assert_close(distillation(student, teacher), wanted)


def test_standardise_by_makes_channels_comparable():
    torch.manual_seed(0)
    scale = torch.tensor([0.01, 1.0, 300.0]).view(3, 1, 1, 1)
    features = [scale * torch.randn(3, 6, 6, 6) + 10 * scale for _ in range(4)]
    distillation = FeatureDistillation(2, 3)
    distillation.standardise_by(features)
    standard = (torch.stack(features) - distillation.mean) / distillation.deviation
    torch.testing.assert_close(standard.mean((0, 2, 3, 4)), torch.zeros(3), rtol=0, atol=1e-3)
    torch.testing.assert_close(standard.std((0, 2, 3, 4)), torch.ones(3), rtol=0, atol=0.01)


def test_a_constant_channel_stays_finite():
    distillation = FeatureDistillation(2, 3)
    distillation.standardise_by([torch.ones(3, 2, 2, 2)])
    assert distillation(torch.rand(1, 2, 2, 2, 2), torch.ones(1, 3, 2, 2, 2)).isfinite()


def test_statistics_are_in_the_state_dict_and_not_trained():
    distillation = FeatureDistillation(2, 3)
    assert {"mean", "deviation"} <= set(distillation.state_dict())
    assert {name for name, _ in distillation.named_parameters()} == {"project.weight", "project.bias"}


@pytest.mark.parametrize("teacher_grid", [(2, 2, 2), (4, 4, 4), (8, 8, 16), (8, 2, 4)])
def test_grids_are_matched_both_ways(teacher_grid):
    distillation = FeatureDistillation(2, 3)
    loss = distillation(torch.rand(1, 2, 4, 4, 4), torch.rand(1, 3, *teacher_grid))
    assert loss.ndim == 0 and loss.isfinite()


def test_match_grid_averages_what_is_finer_and_keeps_what_fits():
    features = torch.rand(1, 2, 4, 4, 4)
    torch.testing.assert_close(match_grid(features, (2, 2, 2)), torch.nn.functional.avg_pool3d(features, 2))
    assert match_grid(features, (4, 4, 4)) is features or torch.equal(match_grid(features, (4, 4, 4)), features)
    assert match_grid(features, (8, 4, 2)).shape == (1, 2, 8, 4, 2)
