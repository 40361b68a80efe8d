from __future__ import annotations

import numpy as np
import pytest
import torch

from support.bundle.path import import_bundle

organs = import_bundle("weakmedsam", "prior.organs")
InputError = import_bundle("weakmedsam", "common.errors").InputError


def bits(*ranges: tuple[int, int] | None, slices: int = 40) -> np.ndarray:
    """Return the bits [P, n] of labels from their first to their last slice; None for a label that is not there."""
    found = np.zeros((len(ranges), slices), dtype=bool)
    for row, known in zip(found, ranges, strict=True):
        if known is not None:
            row[known[0] : known[1] + 1] = True
    return found


def auto(*cases: np.ndarray) -> list[int]:
    return organs.choose_groups("auto", iter(cases), len(cases[0]))


# --- which labels share a map


def test_each_and_union_do_not_look():
    cases = [bits((0, 9), (10, 19), (0, 19))]
    assert organs.choose_groups("each", cases, 3) == [0, 1, 2]
    assert organs.choose_groups("union", cases, 3) == [0, 0, 0]


@pytest.mark.parametrize("sharing", ["organ", None, "Auto"])
def test_another_sharing_is_named(sharing):
    with pytest.raises(InputError, match=f"sharing is {sharing!r}; wanted one of auto, each, union"):
        organs.choose_groups(sharing, [bits((0, 9))], 1)


def test_one_label_has_one_map():
    assert auto(bits((3, 9)), bits(None)) == [0]


@pytest.mark.parametrize(
    ("second", "groups"),
    [
        ((20, 30), [0, 0]),  # the very next slice
        ((22, 30), [0, 0]),  # two slices between
        ((23, 30), [0, 1]),  # three
        ((0, 9), [0, 0]),  # before it
        ((0, 6), [0, 1]),  # before it, three slices between
        ((19, 28), [0, 0]),  # 1 of 10 slices shared
        ((18, 27), [0, 1]),  # 2 of 10
        ((10, 19), [0, 1]),  # all of them
        ((13, 15), [0, 1]),  # within
    ],
)
def test_parts_of_an_organ_follow_one_another_along_the_slices(second, groups):
    assert auto(bits((10, 19), second)) == groups


def test_shared_slices_count_against_the_shorter_label():
    assert auto(bits((0, 29), (28, 32))) == [0, 1]  # 2 of 30, but of 5 too
    assert auto(bits((0, 29), (29, 38))) == [0, 0]


def test_most_cases_decide_of_those_that_have_both():
    touch, far, without = bits((0, 9), (10, 19)), bits((0, 9), (30, 39)), bits((0, 9), None)
    assert auto(touch, touch, far) == [0, 0]
    assert auto(touch, far) == [0, 1]  # half of them is not most
    assert auto(touch, without, without, bits(None, (4, 9))) == [0, 0]
    assert auto(without, bits(None, (10, 19))) == [0, 1]  # never seen together
    # on the whole a tenth of the slices is shared, though more in one case
    assert auto(touch, touch, bits((0, 9), (8, 17))) == [0, 0]
    assert auto(touch, bits((0, 9), (6, 15))) == [0, 1]


def test_gaps_within_a_label_do_not_part_it_from_its_neighbour():
    found = bits((0, 19), (20, 29))
    found[0, 4:12] = False
    assert auto(found) == [0, 0]


def test_groups_are_chains_numbered_as_labels_come():
    #           head     a rib     body      tail
    assert auto(bits((0, 9), (0, 29), (10, 19), (20, 29))) == [0, 1, 0, 0]
    assert auto(bits((0, 29), (20, 29), (0, 9), (10, 19))) == [0, 1, 1, 1]  # the ends are linked last
    assert auto(bits((0, 4), (20, 24), (5, 9), (25, 29))) == [0, 1, 0, 1]


def test_labels_on_the_same_slices_share_nothing_though_both_follow_a_third_one():
    # two kidneys above a bladder: either may have its map, both together not
    assert auto(bits((10, 19), (10, 19), (0, 9))) == [0, 1, 0]
    assert auto(bits((0, 9), (10, 19), (10, 19))) == [0, 0, 1]
    # nor may two chains be joined one link of which lies beside a link of the other
    assert auto(bits((0, 9), (10, 19), (0, 9), (20, 29))) == [0, 0, 1, 0]


# --- merging


def test_merged_maps_are_the_largest_of_each_group_in_the_groups_order():
    maps = torch.rand(2, 4, 3, 2, 5, generator=torch.Generator().manual_seed(0))
    found = organs.merge(maps, [0, 1, 0, 2])
    assert found.shape == (2, 3, 3, 2, 5)
    assert found[:, 0].equal(torch.maximum(maps[:, 0], maps[:, 2]))
    assert found[:, 1].equal(maps[:, 1]) and found[:, 2].equal(maps[:, 3])
    assert organs.merge(maps, [0, 1, 2, 3]).equal(maps)
    assert organs.merge(maps, [0] * 4).equal(maps.amax(1, keepdim=True))
