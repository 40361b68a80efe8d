"""Probabilities of solid structures."""

from __future__ import annotations

import torch

from common.imaging.solid import keep_solid, smooth_and_keep_largest
from support.ada_sam.structures import one_hot, structures

ANYWHERE = torch.ones(2, 1, 1, 1, dtype=torch.bool)


def soft(found: torch.Tensor) -> torch.Tensor:
    return 0.9 * one_hot(found) + 0.1 / 3


def test_small_parts_go_to_the_background_and_holes_to_the_structure():
    found = structures()
    broken = found.clone()
    broken[0, 5, 4, 4] = False  # a hole
    broken[0, 14, 1, 5] = True  # a crumb
    clean = keep_solid(soft(broken), ANYWHERE, 0.0, [0, 1], True)
    assert clean.argmax(0).equal(one_hot(found).argmax(0))
    assert torch.allclose(clean.sum(0), torch.ones(()), atol=1e-5) and float(clean.min()) >= 0
    crumb = keep_solid(soft(broken), ANYWHERE, 0.0, [1], True)
    assert crumb.argmax(0)[14, 1, 5] == 1 and crumb.argmax(0)[5, 4, 4] == 1
    hole = keep_solid(soft(broken), ANYWHERE, 0.0, [0, 1], False)
    assert hole.argmax(0)[14, 1, 5] == 0 and hole.argmax(0)[5, 4, 4] == 0


def test_a_hole_that_holds_another_structure_stays():
    shell = torch.zeros(2, 9, 9, 9, dtype=torch.bool)
    shell[0, 2:7, 2:7, 2:7] = True
    shell[0, 4, 4, 4], shell[1, 4, 4, 4] = False, True
    assert keep_solid(soft(shell), ANYWHERE, 0.0, [0, 1], True).argmax(0)[4, 4, 4] == 2


def test_nothing_outside_the_gate_whatever_the_smoothing():
    found, gate = structures(), torch.zeros(2, 1, 1, 10, dtype=torch.bool)
    gate[0, ..., 3:6] = True
    clean = keep_solid(soft(found), gate, 1.0, [0, 1], True)
    assert not clean[1, ..., :3].any() and not clean[1, ..., 6:].any() and not clean[2].any()
    assert (clean.argmax(0) == 1).any() and torch.allclose(clean.sum(0), torch.ones(()), atol=1e-5)


def test_smoothing_rounds_off_and_leaves_its_argument_alone():
    given = soft(structures())
    before = given.clone()
    smooth = keep_solid(given, ANYWHERE, 1.0, [], False)
    assert given.equal(before) and not smooth.equal(before)
    assert torch.allclose(smooth.sum(0), torch.ones(()), atol=1e-5)


def test_nothing_found_is_nothing():
    nothing = soft(torch.zeros(2, 6, 6, 6, dtype=torch.bool))
    assert not keep_solid(nothing, ANYWHERE, 1.0, [0, 1], True).argmax(0).any()


def test_specks_go_to_the_background_and_what_is_left_still_sums_to_one():
    label = torch.zeros(20, 20, 20, dtype=torch.long)
    label[4:12, 4:12, 4:12] = 1
    label[15:18, 15:18, 15:18] = 1
    label[4:9, 13:18, 4:9] = 2
    given = torch.nn.functional.one_hot(label, 3).movedim(-1, 0).float() * 0.8 + 0.2 / 3
    found = smooth_and_keep_largest(given, sigma=0.5)
    assert torch.allclose(found.sum(0), torch.ones(20, 20, 20), atol=1e-5)
    hard = found.argmax(0)
    assert not bool((hard[14:, 14:, 14:] > 0).any()) and int(hard[6, 6, 6]) == 1 and int(hard[6, 15, 6]) == 2
    assert int((hard == 1).sum()) > 400
    untouched = smooth_and_keep_largest(given, sigma=0.0)
    assert torch.equal(untouched.argmax(0)[:13], label[:13])


def test_a_prediction_of_background_alone_stays_one():
    empty = torch.tensor([0.9, 0.1]).view(2, 1, 1, 1).expand(2, 6, 6, 6)
    assert torch.allclose(smooth_and_keep_largest(empty), empty)
