"""The best for a budget, and those level with it."""

from __future__ import annotations

from tools.advising.annotation import Annotation
from tools.advising.choice import Option, best

ONE, FOUR = Annotation(volumes=1), Annotation(volumes=4)
CHEAP = Option("a", ONE, 30, {"x": 0.70, "y": 0.60})
GOOD = Option("b", FOUR, 120, {"x": 0.80, "y": 0.70})
LEVEL = Option("c", FOUR, 100, {"x": 0.80, "y": 0.69})
NARROW = Option("d", ONE, 30, {"x": 0.99})
ALL = [GOOD, CHEAP, LEVEL, NARROW]


def test_what_is_too_dear_does_not_count():
    assert best(ALL, 29) == []
    assert best(ALL, 99) == [CHEAP]


def test_of_what_is_level_the_cheapest_comes_first():
    assert best(ALL, 120) == [LEVEL, GOOD]


def test_what_was_measured_on_fewer_sets_is_not_compared():
    assert NARROW not in best(ALL, 500)
    assert best([NARROW], 500) == [NARROW]


def test_what_was_measured_nowhere_is_no_choice():
    assert best([Option("e", ONE, 1, {})], 500) == []
