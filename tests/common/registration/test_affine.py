from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from common.registration.affine import fit_affine, refit_affine
from common.registration.fields import total_ddf, warp

SIZE = (40, 36, 32)
AFFINE = torch.tensor([[[1.2, 0.1, 0.0, 2.0], [-0.1, 0.9, 0.05, -1.0], [0.0, 0.0, 1.1, 0.5]]])


@pytest.mark.parametrize("batch", [1, 2])
def test_the_affine_of_an_affine_is_itself(batch):
    affine = AFFINE.expand(batch, 3, 4)
    torch.testing.assert_close(fit_affine(total_ddf(affine, None, SIZE)), affine, rtol=0, atol=1e-3)


def test_what_has_no_weight_has_no_say():
    ddf, weight = total_ddf(AFFINE, None, SIZE).clone(), torch.ones(1, 1, *SIZE)
    ddf[..., 20:], weight[..., 20:] = 9.0, 0.0
    torch.testing.assert_close(fit_affine(ddf, weight), AFFINE, rtol=0, atol=1e-3)
    torch.testing.assert_close(fit_affine(ddf, 0 * weight), torch.eye(3, 4)[None])


def test_an_axis_of_one_voxel_stays_as_it_is():
    found = fit_affine(torch.ones(1, 3, 20, 20, 1))
    torch.testing.assert_close(found, torch.tensor([[[1.0, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1]]]), rtol=0, atol=0.01)


def test_it_comes_nearer_to_what_a_gradient_has_missed():
    noise = torch.rand(1, 1, 12, 11, 10, generator=torch.Generator().manual_seed(0))
    moving = F.interpolate(noise, size=SIZE, mode="trilinear", align_corners=True)
    fixed = warp(moving, total_ddf(AFFINE, None, SIZE))
    start = torch.eye(3, 4)[None]
    errors = [float((refit_affine(fixed, moving, start, rounds) - AFFINE).abs().max()) for rounds in (0, 2)]
    assert errors[0] == 2 and errors[1] < 0.5


def test_it_goes_on_from_the_affine_that_is_given():
    noise = torch.rand(1, 1, 12, 11, 10, generator=torch.Generator().manual_seed(0))
    moving = F.interpolate(noise, size=SIZE, mode="trilinear", align_corners=True)
    fixed = warp(moving, total_ddf(AFFINE, None, SIZE))
    torch.testing.assert_close(refit_affine(fixed, moving, AFFINE), AFFINE, rtol=0, atol=0.3)
