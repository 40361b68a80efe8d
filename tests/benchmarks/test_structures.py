"""Scores by label and by true size."""

from __future__ import annotations

import math

import nibabel
import numpy as np
import pytest

from benchmarks.structures import answers, by_label, by_size, count_sizes, overall, score_case, with_volumes

LABELS = {0: "background", 2: "small", 5: "large"}


@pytest.fixture
def case(tmp_path) -> dict:
    """Voxels of 2 x 2 x 5 mm, .02 ml: 4^3 voxels of one label, 1.28 ml, 10^3 of the other, 20 ml."""
    label = np.zeros((20, 20, 20), np.uint8)
    label[:4, :4, :4], label[8:18, 8:18, 8:18] = 2, 5
    path = tmp_path / "label.nii.gz"
    nibabel.save(nibabel.Nifti1Image(label, np.diag([2.0, 2.0, 5.0, 1.0])), path)
    return {"case": "a", "label": str(path)}


def test_a_prediction_is_scored_in_mm_beside_the_true_volume(case):
    pred = np.zeros((20, 20, 20), np.int32)
    pred[:4, :4, :2], pred[8:18, 8:18, 8:18] = 2, 5
    small, large = score_case(case, pred, LABELS)
    assert small["ml"] == pytest.approx(1.28) and small["dice"] == pytest.approx(2 / 3) and small["name"] == "small"
    assert small["hd95"] == pytest.approx(10.0)  # two slices of 5 mm
    assert large["ml"] == pytest.approx(20) and large["dice"] == 1
    assert with_volumes([{"case": "a", "label": 5, "dice": 0.5}], [case]) == [
        {"case": "a", "label": 5, "dice": 0.5, "ml": pytest.approx(20)}
    ]


def rows() -> list[dict]:
    sizes = [("a", "x", 2.9, 0.2), ("a", "y", 3.0, 0.4), ("b", "x", 60.0, 0.9), ("b", "y", 0.0, math.nan)]
    found = [{"case": c, "label": 1, "name": n, "ml": ml, "dice": dice, "plain dice": 0.1} for c, n, ml, dice in sizes]
    return [*found, {**found[0], "case": "c", "ml": 9.9, "dice": 0.8}]


def test_means_by_size_count_each_structure_that_is_there_and_no_other():
    found = by_size(rows())
    assert found["under 3 ml"] == 0.2 and found["3-10 ml"] == pytest.approx(0.6) and found["over 50 ml"] == 0.9
    assert math.isnan(found["10-50 ml"])
    assert count_sizes(rows()) == {"under 3 ml": 1, "3-10 ml": 2, "10-50 ml": 0, "over 50 ml": 1}


def test_overall_is_the_mean_over_cases_of_their_means_over_labels():
    assert overall(rows()) == pytest.approx((0.3 + 0.9 + 0.8) / 3)
    assert by_label(rows()) == {"x": pytest.approx((0.2 + 0.9 + 0.8) / 3), "y": 0.4}


def test_columns_of_dice_are_the_answers():
    table = [{"dice": 1, "hd95": 2, "plain dice": 1, "cleaned hd95": 1}, {"dice": 1, "propagated_dice": 1}]
    assert answers(table) == ["dice", "plain dice", "propagated_dice"]
