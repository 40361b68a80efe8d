from __future__ import annotations

import numpy as np
import pytest

from support.data.finished_runs import write_run
from tools.learning.outlook import check_curve, common_notes, learning_curve
from tools.learning.runs import read_runs


def runs_of(tmp_path, **means):
    """Return runs with 1, 2, 4 ... labels of these mean Dice for each label, six cases each."""
    apart = np.array([-0.1, -0.05, 0, 0, 0.05, 0.1])
    counts = range(len(next(iter(means.values()))))
    folders = [
        write_run(tmp_path / str(row), 2**row, {name: list(dice[row] + apart) for name, dice in means.items()})
        for row in counts
    ]
    return read_runs(folders)


def test_measured_and_expected_dice_stand_with_share_and_time(tmp_path):
    runs = runs_of(tmp_path, liver=[0.6, 0.7, 0.75])
    found = learning_curve(runs, "overall", [8, 16], 0.7, 30)
    assert [row["labels"] for row in found["measured"]] == [1, 2, 4]
    assert [row["dice"] for row in found["measured"]] == pytest.approx([0.6, 0.7, 0.75])
    assert [row["under"] for row in found["measured"]] == pytest.approx([5 / 6, 2 / 6, 1 / 6])
    assert [row["minutes"] for row in found["measured"] + found["expected"]] == [30, 60, 120, 240, 480]
    eight, sixteen = found["expected"]
    assert 0.75 < eight["dice"] < sixteen["dice"] < 0.9
    assert eight["low"] < eight["dice"] < eight["high"] and not found["curve"]["rate_fitted"]


def test_several_runs_of_a_number_are_one_row(tmp_path):
    folders = [
        write_run(tmp_path / f"{count}_{seed}", count, {"liver": [dice + 0.02 * seed] * 3}, seed=seed)
        for count, dice in ((1, 0.6), (2, 0.7))
        for seed in (0, 1)
    ]
    found = learning_curve(read_runs(folders), "liver", [4], 0.7, 30)
    assert [(row["runs"], row["dice"]) for row in found["measured"]] == [
        (2, pytest.approx(0.61)),
        (2, pytest.approx(0.71)),
    ]
    assert found["check"] is None  # two numbers of labels: none to leave out


def test_the_most_labels_are_predicted_from_fewer():
    scores = np.tile(np.array([[0.6], [0.7], [0.9]]), 5)
    found = check_curve([1, 2, 4], scores)
    assert found["labels"] == 4 and found["measured"] == pytest.approx(0.9)
    assert found["predicted"] == pytest.approx(0.7 + 0.1 / 2**0.5, abs=1e-6)  # of 1 and 2 alone
    assert found["low"] < found["predicted"] < found["high"]
    assert check_curve([1, 2, 4], scores[[1, 0, 2]])["predicted"] is None


def test_a_dice_that_does_not_rise_is_said_and_nothing_is_expected(tmp_path):
    runs = runs_of(tmp_path, liver=[0.75, 0.74, 0.7], spleen=[0.5, 0.6, 0.65])
    found = learning_curve(runs, "liver", [8, 16], 0.7, 30)
    assert (
        found["expected"] == []
        and "doesn't rise with the labels (0.750, 0.740, 0.700 with 1, 2, 4 labels)" in found["notes"][0]
    )
    assert learning_curve(runs, "spleen", [8, 16], 0.7, 30)["expected"]


def test_a_curve_that_has_less_than_was_measured_expects_nothing(tmp_path):
    found = learning_curve(runs_of(tmp_path, liver=[0.57, 0.44, 0.71]), "liver", [8, 16], 0.7, 30)
    assert found["expected"] == [] and found["curve"]["fall"] > 0
    assert "doesn't rise steadily (0.570, 0.440, 0.710 with 1, 2, 4 labels): a curve through that" in found["notes"][0]


@pytest.mark.parametrize(
    ("dice", "told"),
    [
        ([0.5, 0.69, 0.685], "doesn't rise at every step"),
        ([0.7, 0.7, 0.71], "of the resamplings the Dice doesn't rise"),
    ],
)
def test_noise_is_said(tmp_path, dice, told):
    assert told in learning_curve(runs_of(tmp_path, liver=dice), "overall", [8], 0.7, 30)["notes"][0]


def test_a_structure_that_a_run_never_scored_has_no_curve(tmp_path):
    folders = [
        write_run(tmp_path / str(count), count, {"liver": [0.7, 0.8], "spleen": spleen})
        for count, spleen in ((1, [None, None]), (2, [0.5, 0.6]))
    ]
    found = learning_curve(read_runs(folders), "spleen", [4], 0.7, 30)
    assert found["expected"] == [] and found["measured"] == [] and "a run has no Dice of it" in found["notes"][0]


def test_more_labels_than_scans_and_other_settings_are_noted(tmp_path):
    folders = [write_run(tmp_path / str(n), n, {"liver": [0.5 + n / 20]}, epochs=10 * n) for n in (1, 2, 4)]
    runs = read_runs(folders)
    said = "\n".join(common_notes(runs, [8, 32], 45))
    for words in (
        "can't tell the rate",
        "45 minutes a volume, an assumption",
        "there are 20 to label",
        "max_epochs is 10",
    ):
        assert words in said, words
    assert "to label in" not in "\n".join(common_notes(runs, [8, 16], 45))
