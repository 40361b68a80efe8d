"""Prices of annotation, by hand."""

from __future__ import annotations

import pytest

from tools.advising.annotation import Annotation, Prices, minutes


def test_a_price_is_the_sum_over_what_is_drawn_for_each_structure():
    prices = Prices(volume=30, slice=2, box=0.5, bit=0.25)
    drawn = Annotation(volumes=2, slices=3, boxes=4, bits=8)
    assert drawn.minutes(prices) == 60 + 6 + 2 + 2
    assert drawn.minutes(prices, structures=3) == 3 * 70


def test_nothing_drawn_costs_nothing():
    assert Annotation().minutes(Prices()) == 0
    assert Annotation().said() == ""


def test_it_is_said_as_a_person_says_it():
    assert Annotation(volumes=1, boxes=2, bits=1).said() == "1 volume, 2 boxes, 1 bit"
    assert Prices(volume=90, slice=1, box=0.1, bit=1 / 60).said() == (
        "prices, a structure: volume 90 min, slice 1 min, box 6 s, bit 1 s"
    )


@pytest.mark.parametrize(("time", "text"), [(0.5, "30 s"), (1, "1 min"), (99, "99 min"), (150, "2.5 h")])
def test_minutes(time, text):
    assert minutes(time) == text
