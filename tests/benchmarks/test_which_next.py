"""How a round of the loop chooses, and what its table says."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from support.bundle.path import import_bundle

import_bundle("semisam_plus")
from benchmarks.which_next import BOTH, DISTANCE, QUALITY, Annotation, draw_order, print_table  # noqa: E402


def test_each_way_chooses_by_its_own():
    places = np.array([0.0, 1.0, 2.0, 4.0])
    loop = SimpleNamespace(ids=list("abcd"), start="a", distances=np.abs(places[:, None] - places[None]))
    predicted = {"a": 0.0, "b": 0.1, "c": 0.2, "d": 0.7}
    chosen = {way: Annotation.next_scan(loop, way, predicted, ["a"]) for way in (BOTH, QUALITY, DISTANCE)}
    assert chosen == {BOTH: "c", QUALITY: "b", DISTANCE: "d"}  # .9 * 1, .8 * 2, .3 * 4
    assert Annotation.next_scan(loop, "drawn 3", predicted, ["a"]) == draw_order("abcd", "a", 3)[0]
    assert Annotation.next_scan(loop, "drawn 3", predicted, ["a", "x"]) == draw_order("abcd", "a", 3)[1]


def test_draws_depend_on_ids_and_seed_alone():
    cases = [f"case_{number}" for number in range(12)]
    assert draw_order(cases, "case_3", 1) == draw_order(cases[::-1], "case_3", 1)
    assert sorted(draw_order(cases, "case_3", 1)) == sorted(set(cases) - {"case_3"})
    assert draw_order(cases, "case_3", 1) != draw_order(cases, "case_3", 2)


def test_table(capsys):
    print_table({BOTH: [0.5, 0.6, 0.8], "drawn 0": [0.5, 0.5, 0.9], "drawn 1": [0.5, 0.7, 0.7]})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| chosen by | 1 | 2 | 3 | mean from 2 |"
    assert lines[2] == "| both | 0.500 | 0.600 | 0.800 | 0.700 |"
    assert lines[5] == "| drawn, mean of 2 | 0.500 | 0.600 | 0.800 | 0.700 |"
    assert lines[-1] == "* both: above 2 of 4 draws and rounds"


@pytest.mark.parametrize("way", [BOTH, "drawn 0"])
def test_a_loop_asks_each_round_with_one_label_more(way):
    asked = []

    def learn(labelled):
        asked.append(list(labelled))
        return {"dice": {"t": 0.1 * len(labelled), "u": 0.1 * len(labelled)}, "predicted": {}}

    choose = lambda way, predicted, labelled: f"s{len(labelled)}"  # noqa: E731
    loop = SimpleNamespace(start="s0", arguments=SimpleNamespace(rounds=2), learn=learn, next_scan=choose)
    assert Annotation.loop(loop, way) == pytest.approx([0.1, 0.2, 0.3])
    assert asked == [["s0"], ["s0", "s1"], ["s0", "s1", "s2"]]
