"""The way from the middle of a structure to its ends."""

from __future__ import annotations

import pytest
import torch

from common.slices.middle_out import middle_slice, walk_outwards


def test_both_directions_go_in_step_until_each_has_ended():
    assert list(walk_outwards(1, [True] * 4)) == [[(1, 0), (1, 2)], [(2, 3)]]


def test_a_closed_slice_is_not_crossed():
    assert list(walk_outwards(3, [True, False, True, True, True])) == [[(3, 2), (3, 4)]]


@pytest.mark.parametrize(("seed", "gate"), [(None, [True, True]), (0, [True]), (0, [])])
def test_without_a_way_there_is_no_step(seed, gate):
    assert list(walk_outwards(seed, gate)) == []


def test_middle_has_half_of_the_structure_on_either_side_and_is_never_empty():
    assert middle_slice(torch.tensor([0, 1, 1, 1, 0])) == 2
    assert middle_slice(torch.tensor([1, 1, 1, 9, 0, 0])) == 3
    assert middle_slice(torch.tensor([2, 0, 0, 2])) == 0
    assert middle_slice(torch.zeros(3)) is None and middle_slice(torch.zeros(0)) is None
