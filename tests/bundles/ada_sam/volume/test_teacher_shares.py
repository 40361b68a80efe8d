"""How much each of two teachers counts in a label."""

from __future__ import annotations

import pytest
import torch

from support.bundle.path import import_bundle

shares = import_bundle("ada_sam", "volume.teacher_shares")


def test_overlaps_are_counted_where_masks_are_drawn_alone():
    found = torch.tensor([1, 1, 2, 0, 1, 2]).view(6, 1, 1)
    drawn = torch.tensor([1, 0, 2, 2, -1, -1]).view(6, 1, 1)
    assert shares.count_overlaps(found, drawn, 3).tolist() == [[1, 3], [1, 3], [0, 0]]


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        (0.9, 0.9, 0.4),  # both know it: the share that there was
        (0.0, 0.5, 1.0),  # one of them has not learnt it
        (0.5, 0.0, 0.0),
        (0.0, 0.0, 0.4),
        (0.45, 0.9, 4 / 7),
    ],
)
def test_shares_follow_how_well_masks_are_repeated(first, second, wanted):
    counts = [torch.tensor([[100 * dice / 2, 100.0]]) for dice in (first, second)]
    found = shares.label_shares(0.4, *counts)
    assert found.tolist() == pytest.approx([0.4, wanted])


def test_a_teacher_alone_teaches_alone():
    counts = torch.tensor([[40.0, 100.0]])
    assert shares.label_shares(1.0, counts, torch.zeros(1, 2)).tolist() == [1, 1]


def test_fused_probabilities_sum_to_one_and_what_one_alone_knows_is_found():
    first, second = torch.zeros(3, 2, 1, 1), torch.zeros(3, 2, 1, 1)
    first[0], second[2] = 1.0, 1.0  # the first teacher knows nothing of the second structure
    first[:, 1] = second[:, 1] = 0.0  # beyond the scan nobody says anything
    uniform = shares.fuse_by_shares(first.clone(), second, torch.full((3,), 0.4))
    assert uniform[:, 0, 0, 0].tolist() == pytest.approx([0.6, 0, 0.4])
    found = shares.fuse_by_shares(first, second, torch.tensor([0.4, 0.4, 1.0]))
    assert found is first and found[2, 0, 0, 0] > 0.5 and found[:, 0].sum() == pytest.approx(1.0)
    assert not found[:, 1].any()
