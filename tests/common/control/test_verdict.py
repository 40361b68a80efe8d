"""What is said of a method beside its controls."""

from __future__ import annotations

import math

import numpy as np
import pytest

from common.control.verdict import judge, pair_means
from common.scoring.compared import Compared

CONTROL = Compared("plain", "plain UNet", "plain dice", control="serve control.pt")
OTHER = Compared("other", "another", "other dice", control="do something else")


def rows(method, control, **more) -> list[dict]:
    """Return a row for each case, of one label."""
    found = [
        {"case": str(number), "label": 1, "name": "organ", "dice": mine, CONTROL.column: its}
        for number, (mine, its) in enumerate(zip(method, control, strict=True))
    ]
    return [{**row, **{name: values[number] for name, values in more.items()}} for number, row in enumerate(found)]


def one(method, control):
    (found,) = judge(rows(method, control), "Method", [CONTROL])
    return found


# of 8 differences of one sign the exact two-sided p is 2 / 2^8
EIGHT = np.linspace(0.6, 0.8, 8)
STEPS = np.linspace(0.01, 0.04, 8)


def test_better_on_all_of_eight_cases():
    found = one(EIGHT + STEPS, EIGHT)
    assert (found.verdict, found.cases, found.better_on) == ("better", 8, 8)
    assert found.p == pytest.approx(2 / 2**8) and found.gain == pytest.approx(0.025)
    assert found.text == ("Method 0.725, plain UNet 0.700: +0.025 on 8 cases (higher on 8), paired Wilcoxon p = 0.0078")


def test_worse_says_what_to_do_with_the_control():
    found = one(EIGHT, EIGHT + STEPS)
    assert (found.verdict, found.better_on, found.p) == ("below", 0, pytest.approx(2 / 2**8))
    assert found.text.endswith("The control is better: serve control.pt")


def test_worse_that_may_be_chance_is_below_and_says_so():
    found = one(EIGHT, EIGHT + STEPS * np.array([1, -1, 1, -1, 1, -1, 1, 1]))
    assert found.verdict == "below" and found.p > 0.05
    assert "is not worse, as far as these cases tell, and simpler" in found.text and found.text.endswith(
        "serve control.pt"
    )


def test_a_gain_that_may_be_chance_decides_nothing():
    found = one(EIGHT + STEPS * np.array([1, -1, 1, -1, 1, -1, 1, 1]), EIGHT)
    assert found.gain > 0 and found.verdict == "open" and found.text.endswith("no difference that these cases can tell")


def test_a_loss_that_no_table_shows_is_none():
    assert one(EIGHT - 0.0004, EIGHT).verdict == "open" and one(EIGHT - 0.0006, EIGHT).verdict == "below"


def test_equal_is_open_with_p_1():
    found = one(EIGHT, EIGHT)
    assert (found.verdict, found.gain, found.p, found.better_on) == ("open", 0.0, 1.0, 0)


@pytest.mark.parametrize(("sign", "verdict"), [(1, "open"), (-1, "below")])
def test_five_cases_are_too_few_for_a_test_but_a_loss_is_a_loss(sign, verdict):
    found = one(EIGHT[:5] + sign * STEPS[:5], EIGHT[:5])
    assert found.p is None and found.verdict == verdict and "5 cases" in found.text
    assert "too few cases for a test" in found.text


def test_a_mean_that_one_case_carries_is_no_gain_though_the_ranks_are_sure():
    # 11 of 12 cases lose a little, one gains much: the ranks say worse, the mean says better
    control = np.full(12, 0.5)
    found = one(control + np.array([0.45, *np.linspace(-0.01, -0.03, 11)]), control)
    assert found.gain > 0 and found.p < 0.05 and found.verdict == "open"


def test_a_control_that_was_not_scored_gets_no_verdict():
    assert judge(rows(EIGHT, EIGHT), "Method", [OTHER]) == [] and judge([], "Method", [CONTROL]) == []
    assert judge(rows(EIGHT, [math.nan] * 8), "Method", [CONTROL]) == []


def test_the_strongest_control_comes_first():
    found = judge(rows(EIGHT, EIGHT - 0.1, **{OTHER.column: EIGHT + 0.1}), "Method", [CONTROL, OTHER])
    assert [verdict.control for verdict in found] == ["another", "plain UNet"]
    assert [verdict.verdict for verdict in found] == ["below", "better"]


def test_means_over_labels_leave_out_what_only_one_of_the_two_has():
    table = [
        {"case": "a", "name": "one", "dice": 0.6, "plain dice": 0.4},
        {"case": "a", "name": "two", "dice": 0.2, "plain dice": math.nan},
        {"case": "a", "name": "three", "dice": 0.8, "plain dice": 0.8},
        {"case": "b", "name": "one", "dice": math.nan, "plain dice": 0.4},
    ]
    assert pair_means(table, "plain dice", "case") == {"a": (pytest.approx(0.7), pytest.approx(0.6))}


def test_labels_on_which_the_control_is_better_are_named_though_the_method_is_better_overall():
    wall = [{**row, "name": "wall"} for row in rows([0.152] * 8, [0.201] * 8)]
    (found,) = judge([*rows(EIGHT + 0.2, EIGHT), *wall], "Method", [CONTROL])
    assert found.verdict == "better" and found.below_on == {"wall": (pytest.approx(0.152), pytest.approx(0.201))}
    assert found.text.endswith("; lower on wall (0.152, 0.201)")
