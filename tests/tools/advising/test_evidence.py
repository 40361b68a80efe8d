"""Measurements on other data, priced for what a data set has and lacks."""

from __future__ import annotations

import pytest

from tools.advising.annotation import Annotation, Prices
from tools.advising.evidence import Given, options, read_measured

PRICES = Prices(volume=30, slice=1, box=1, bit=0.1)


def entry(row, dataset, dice, **drawn):
    return {"row": row, "dataset": dataset, "dice": dice, "annotation": drawn}


MEASURED = [
    entry("few", "heart", 0.8, volumes=4),
    entry("few", "brain", 0.6, volumes=4),
    entry("weak", "heart", 0.5, bits=4400),
    entry("weak", "brain", 0.4, bits=900),
]


def given(**other):
    return Given(**{"structures": 2, "scans": 10, "slices": 200, "volumes": 0, "bits": 0, **other})


def test_sets_are_brought_together_and_bits_are_those_of_these_scans():
    found = {option.row: option for option in options(MEASURED, given(), PRICES)}
    assert found["few"].dice == {"heart": 0.8, "brain": 0.6}
    assert found["few"].minutes == 2 * 4 * 30
    assert found["weak"].annotation == Annotation(bits=200)
    assert found["weak"].minutes == pytest.approx(2 * 200 * 0.1)


def test_what_is_drawn_already_costs_nothing():
    found = {option.row: option.minutes for option in options(MEASURED, given(volumes=3, bits=150), PRICES)}
    assert found == {"few": 2 * 30, "weak": pytest.approx(2 * 50 * 0.1)}


def test_all_volumes_there_are_all_volumes_here():
    measured = [entry("all", "heart", 0.9, volumes=50), entry("all", "brain", 0.8, volumes=140)]
    (option,) = options(measured, given(volumes=4), PRICES)
    assert option.annotation == Annotation(volumes=10) and option.minutes == 2 * 6 * 30
    assert option.dice == {"heart": 0.9, "brain": 0.8}


def test_more_than_the_scans_is_no_option():
    assert [option.row for option in options(MEASURED, given(scans=3), PRICES)] == ["weak"]


def test_every_measurement_that_is_shipped_can_be_read_and_priced():
    measured = read_measured()
    assert measured
    for one in measured:
        assert 0 <= one["dice"] <= 1 and one["draws"] >= 1
        assert Annotation(**one["annotation"]).minutes(Prices(), one["structures"]) > 0
