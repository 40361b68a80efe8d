"""What a scan's line says, of masks whose differences are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from common.scoring.oddities import RULE, compare

AFFINE = np.diag([2.0, 2.0, 5.0, 1.0])  # a voxel is .02 ml, the slices lie along the third axis
NAMES = {1: "liver", 2: "spleen"}
SIZE = (20, 20, 30)


def box(*ranges, value=1):
    volume = torch.zeros(SIZE, dtype=torch.int64)
    volume[tuple(slice(a, b) for a, b in ranges)] = value
    return volume


TRUTH = box((5, 15), (5, 15), (10, 20))


def line(pred, label=TRUTH, affine=AFFINE, values=(0, 1, 2)):
    return compare(pred, label, affine, values).line(NAMES)


def test_what_is_compared():
    found = compare(box((5, 15), (5, 15), (12, 23)), TRUTH, AFFINE, [0, 1, 2])
    one, other = found.differences
    assert (found.axis, found.slices) == (2, 30) and found.dice == one.dice == pytest.approx(2 * 800 / (1000 + 1100))
    assert (one.pred_ml, one.label_ml) == (pytest.approx(22), pytest.approx(20)) and one.true_slices == 10
    assert one.missed == (11, 12) and one.added == (21, 22, 23)  # from 1
    assert math.isnan(other.dice) and other.worst == 0


@pytest.mark.parametrize(
    ("pred", "said"),
    [
        (TRUTH, "nothing differs from the truth"),
        (TRUTH * 0, "liver: not found (20.0 ml); most wrong on slice 11 of 30"),
        (box((0, 4), (0, 4), (0, 5)), "liver: found elsewhere than it is; most wrong on slice 11 of 30"),
        (box((5, 15), (5, 12), (10, 20)), "liver: 30 % too small; most wrong on slice 11 of 30"),
        (
            box((5, 15), (5, 15), (12, 22)),
            "liver: missed on slices 11 to 12, too much on slices 21 to 22; most wrong on",
        ),
        (TRUTH + box((0, 4), (0, 4), (10, 15)), "liver: 1.6 ml of it lie apart; most wrong on slice 11 of 30"),
        (box((5, 15), (5, 14), (10, 20)), "nothing odd; Dice 0.95, most wrong on slice 11 of 30"),
        (box((9, 19), (5, 15), (10, 20)), "size and slices are right, its outline is not; Dice 0.60, most wrong on"),
    ],
)
def test_the_line_says_what_is_odd(pred, said):
    assert line(pred, values=[1]).startswith(said)


def test_a_structure_that_is_not_there_and_the_worst_structure_first():
    both = TRUTH + box((0, 3), (0, 3), (25, 28), value=2)
    assert line(both).startswith("spleen: found where there is none (0.5 ml); most wrong on slice 26 of 30")
    half = box((5, 15), (5, 12), (10, 20)) + both * (both == 2)
    assert line(half).startswith(
        "spleen: found where there is none (0.5 ml); liver: 30 % too small; most wrong on slice 26"
    )
    fine = line(box((5, 15), (5, 14), (10, 20)) + both * (both == 2), both)
    assert fine == "nothing odd; lowest is liver, 0.95, most wrong on slice 11 of 30"
    assert line(TRUTH * 0, TRUTH * 0) == "no structure in truth or prediction"


def test_slices_count_along_the_thickest_axis_of_the_file_and_of_equal_ones_along_the_last():
    thick = compare(TRUTH * 0, TRUTH, np.diag([-5.0, 1.0, 1.0, 1.0]), [1])
    assert (thick.axis, thick.slices, thick.differences[0].missed) == (0, 20, tuple(range(6, 16)))
    assert compare(TRUTH, TRUTH, np.eye(4), [1]).axis == 2


def test_worst_slice_is_where_most_voxels_are_wrong():
    pred = TRUTH.clone()
    pred[5:15, 5:15, 13] = 0
    pred[5:7, 5:15, 17] = 0
    assert compare(pred, TRUTH, AFFINE, [1]).differences[0].worst == 14


def test_the_rule_is_said():
    for words in ("15 %", "5 %", "2 slices", "from 1"):
        assert words in RULE
