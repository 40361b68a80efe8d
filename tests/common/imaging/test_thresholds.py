from __future__ import annotations

import math

import pytest
import torch

from common.errors import InputError
from common.imaging.thresholds import above, area_thresholds, fixed_thresholds, hysteresis, otsu_thresholds


def maps_and_bits() -> tuple[torch.Tensor, torch.Tensor]:
    maps = torch.rand(2, 10, 10, 8, generator=torch.Generator().manual_seed(0))
    inside = torch.zeros(2, 10, 10, 8, dtype=torch.bool)
    inside[0, ..., 2:6], inside[1, ..., 5:] = True, True
    return maps, inside


def test_area_keeps_the_share_of_the_positive_slices():
    maps, inside = maps_and_bits()
    mask = above(maps, area_thresholds(maps, inside, [0.08, 0.5]), inside)
    assert mask.flatten(1).sum(1).tolist() == [32, 150]
    assert not mask[~inside].any()
    assert maps[0][mask[0]].min() > maps[0][inside[0] & ~mask[0]].max()


def test_area_of_nothing_and_of_all():
    maps, inside = maps_and_bits()
    mask = above(maps, area_thresholds(maps, inside, [0.0, 1.0]), inside)
    assert not mask[0].any() and mask[1].equal(inside[1])
    nowhere = torch.zeros_like(inside)
    assert not above(maps, area_thresholds(maps, nowhere, [0.5, 0.5]), nowhere).any()


def test_equal_values_are_left_out_together_unless_nothing_would_remain():
    maps = torch.tensor([1.0, 0.5, 0.5, 0.5, 0.0]).view(1, 5, 1, 1)
    inside = torch.ones_like(maps, dtype=torch.bool)
    assert above(maps, area_thresholds(maps, inside, [0.4]), inside).flatten().tolist() == [True] + [False] * 4
    flat = maps.clamp(max=0.5)
    assert above(flat, area_thresholds(flat, inside, [0.4]), inside).sum() == 4
    constant = torch.full_like(maps, 0.5)
    assert above(constant, area_thresholds(constant, inside, [0.4]), inside).all()


def test_shares_that_cannot_be():
    maps, inside = maps_and_bits()
    for share in ([0.5], [0.5, 1.2]):
        with pytest.raises(InputError, match="wanted 2 numbers"):
            area_thresholds(maps, inside, share)


def test_otsu_parts_two_heaps_inside():
    generator = torch.Generator().manual_seed(0)
    maps = 0.2 + 0.05 * torch.rand(1, 8, 8, 8, generator=generator)
    maps[0, 2:5, 2:5] += 0.5
    inside = torch.ones_like(maps, dtype=torch.bool)
    assert 0.25 <= float(otsu_thresholds(maps, inside)) <= 0.7
    inside[0, 2:5, 2:5] = False
    assert float(otsu_thresholds(maps, inside)) < 0.25
    assert math.isinf(otsu_thresholds(torch.ones_like(maps), inside)[0])
    assert math.isinf(otsu_thresholds(maps, torch.zeros_like(inside))[0])


def test_hysteresis_keeps_what_touches_a_sure_voxel():
    line = torch.tensor([[0.4, 0.5, 0.7, 0.2, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5, 0.5, 0.5]])
    kept = hysteresis(line, 0.3, 0.6)
    assert kept[0].tolist() == [True, True, True, False, False, False] and not kept[1].any()
    inside = torch.tensor([[True, False, True, True, True, True]]).expand(2, -1)
    assert hysteresis(line, 0.3, 0.6, inside)[0].tolist() == [False, False, True, False, False, False]
    with pytest.raises(InputError, match="above high"):
        hysteresis(line, 0.6, 0.3)


def test_fixed_is_the_same_for_all():
    assert fixed_thresholds(torch.zeros(3, 2, 2, 2), 0.4).tolist() == pytest.approx([0.4] * 3)
