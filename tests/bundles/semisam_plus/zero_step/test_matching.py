"""Masks that are brought from one slice to another by matched features."""

from __future__ import annotations

import pytest
import torch

from support.bundle.path import import_bundle

matching = import_bundle("semisam_plus", "zero_step.matching")


def pictures(shift: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Features [1, C, 20, 16] of a slice that no two places of share, and the same moved down by so many places."""
    support = torch.randn(1, 16, 20, 16, generator=torch.Generator().manual_seed(0))
    return support.roll(shift, dims=2), support


@pytest.mark.parametrize("shift", [0, 1, -2])
def test_a_shifted_mask_is_brought_back(shift):
    query, support = pictures(shift)
    mask = torch.zeros(1, 1, 80, 64)
    mask[..., 32:48, 24:40] = 1  # four voxels a place
    brought = matching.bring_masks(mask, matching.match_slices(query, support, reach=2, temperature=0.02))
    wanted = mask.roll(4 * shift, dims=2)
    assert (2 * (brought * wanted).sum() / (brought + wanted).sum()) > 0.95
    if shift:
        assert (2 * (mask * wanted).sum() / (mask + wanted).sum()) < 0.8


def test_where_all_places_look_alike_nothing_moves_not_even_at_the_edge():
    alike = torch.ones(2, 4, 6, 5)
    assert matching.match_slices(alike, alike, reach=2).abs().max() < 1e-5


def test_what_lies_beyond_reach_is_not_matched():
    query, support = pictures(3)
    assert matching.match_slices(query, support, reach=1, smooth=0).abs().max() <= 2
