"""What a model is good enough for: the limits, and what is said at them."""

from __future__ import annotations

import math

import pytest

from common.control.good_enough import ALONE_SCANS, BAD, GOOD, PARTLY, RULE, good_enough, short, summarise


def scans(*values: float) -> dict[str, float]:
    return {f"scan_{number}": value for number, value in enumerate(values)}


def start(values, by_label=None):
    return good_enough(scans(*values), by_label or {"one": list(values)})[0]


def alone(values):
    return good_enough(scans(*values), {"one": list(values)})[1]


def test_the_sentence_of_the_brief():
    dice = {**scans(*[0.87] * 18), "low": 0.61, "lower": 0.555}
    assert summarise(dice) == "Mean Dice .84, worst scan .55 (lower), 2 of 20 scans under .70."
    assert summarise({"a": 0.5, "b": math.nan}) == "Mean Dice .50, worst scan .50 (a), 1 of 1 scan under .70."
    assert summarise({}) == summarise({"a": math.nan}) == "No scan could be scored."


@pytest.mark.parametrize(
    ("poor", "word", "level"),
    [(0, "yes", GOOD), (2, "yes", GOOD), (3, "some scans", PARTLY), (5, "some scans", PARTLY), (6, "no", BAD)],
)
def test_a_start_for_correcting_is_four_scans_of_five(poor, word, level):
    answer = start([0.69] * poor + [0.70] * (10 - poor))
    assert (answer.word, answer.level) == (word, level)


def test_few_scans_are_said_to_be_few():
    assert start([0.9] * 5).level == PARTLY and "Only 5 scans were scored" in start([0.9] * 5).text
    assert "Only 1 scan was scored" in start([0.9]).text and "Only" not in start([0.9] * 6).text


def test_a_structure_that_fails_is_named_though_the_mean_is_well():
    labels = {"liver": [0.95] * 10, "vein": [0.6] * 3 + [0.8] * 7, "spleen": [0.6] * 2 + [0.9] * 8, "none": []}
    answer = start([0.85] * 10, labels)
    assert (answer.word, answer.level) == ("in part", PARTLY)
    assert "Not of vein" in answer.text and "spleen" not in answer.text


def test_volumes_without_a_look_want_many_scans_and_no_poor_one():
    assert 0.95**ALONE_SCANS < 0.05 < 0.95 ** (ALONE_SCANS - 1)  # the rule behind the number
    assert alone([0.9] * ALONE_SCANS).word == "yes"
    few = alone([0.95] * (ALONE_SCANS - 1))
    assert few.word == "no" and "58 are too few" in few.text
    assert "worst scan has .89" in alone([0.95] * 100 + [0.899]).text


def test_the_limits_are_said_and_nothing_is_said_of_nothing():
    for words in ("20 %", "50 %", "0.70", "0.90", "59 scans", "our choice"):
        assert words in RULE
    assert good_enough({}, {}) == [] == good_enough({"a": math.nan}, {"one": []})


@pytest.mark.parametrize(
    ("dice", "text"), [(0.6999, ".69"), (0.7, ".70"), (0.29, ".29"), (1.0, "1.00"), (0.0, ".00"), (0.999, ".99")]
)
def test_a_number_under_a_limit_is_not_shown_as_the_limit(dice, text):
    assert short(dice) == text
