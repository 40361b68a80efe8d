from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from common.registration.deformation import coarse_velocity, register_velocity
from common.registration.discrete import search_displacement
from common.registration.fields import integrate, warp
from common.registration.mind import mind

SIZE = (40, 36, 32)


def texture(seed: int = 0) -> torch.Tensor:
    """Return an image [1, 1, H, W, D] in [0, 1] with structures of about four voxels."""
    noise = torch.rand(1, 1, 12, 11, 10, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(noise, size=SIZE, mode="trilinear", align_corners=True)


@pytest.mark.parametrize("shift", [(8, 0, 0), (-8, 4, 4), (0, 0, 0)])
def test_a_shift_far_beyond_the_structures_is_found(shift):
    moving = texture()
    fixed = moving.roll([-step for step in shift], dims=(2, 3, 4))  # fixed(x) = moving(x + shift)
    ddf = search_displacement(mind(fixed), mind(moving))
    assert ddf.shape == (1, 3, *SIZE)
    middle = ddf[0, :, 14:-14, 12:-12, 12:-12].flatten(1).mean(1)
    torch.testing.assert_close(middle, torch.tensor(shift, dtype=torch.float32), rtol=0, atol=1.0)


def test_where_all_places_look_alike_nothing_moves():
    flat = torch.ones(1, 12, *SIZE)
    assert search_displacement(flat, flat).abs().max() == 0


def test_cases_of_a_batch_are_searched_by_themselves():
    first, second = mind(texture()), mind(texture(1))
    both = search_displacement(torch.cat([first, second]), torch.cat([second, first]))
    torch.testing.assert_close(both[1:], search_displacement(second, first))


def test_a_side_that_blocks_do_not_fill():
    features = mind(texture()[..., :30, :27])
    assert search_displacement(features, features).shape == (1, 3, 40, 30, 27)


@pytest.mark.parametrize("contrast", [1.0, -1.0])
def test_registration_reaches_what_gradients_alone_miss(contrast):
    moving = texture()
    fixed = moving.roll(-8, dims=2)
    fixed = fixed if contrast > 0 else 1 - fixed
    found = []
    for coarse_steps in (0, 20):
        velocity = register_velocity(fixed, moving, steps=10, coarse_steps=coarse_steps)
        found.append(float(integrate(velocity, SIZE)[0, 0, 14:-14, 12:-12, 12:-12].mean()))
    assert abs(found[1] - 8) < 1 < abs(found[0] - 8)


def test_what_was_not_scanned_does_not_pull():
    """Without a mask the coarse stage goes by the noise beyond the scan, too."""
    moving, known = texture(), torch.ones(1, 1, *SIZE)
    fixed = moving.roll(-4, dims=2)
    known[:, :, :12] = 0
    noise = torch.rand(fixed.shape, generator=torch.Generator().manual_seed(3))
    spoilt = torch.where(known > 0, fixed, noise)
    affine = torch.eye(3, 4)[None]
    error = []
    for given in (None, known):
        velocity = coarse_velocity(spoilt, moving, affine, 40, fixed_known=given)
        warped = warp(moving, integrate(velocity, SIZE))
        error.append(float(((warped - fixed).abs() * known)[:, :, 13:-8].mean()))
    assert error[1] < error[0]
