from __future__ import annotations

import math

from support.bundle.path import import_bundle

verdict = import_bundle("weakmedsam", "scoring.verdict")
CONTROLS = {"prior": "the prior", "centre": "the centre"}


def test_labels_below_a_control_are_named_with_the_better_one():
    scores = {
        "rv": {"method": 0.118, "prior": 0.322, "centre": 0.1},
        "lv": {"method": 0.6, "prior": 0.453, "centre": math.nan},
        "wall": {"method": 0.0, "prior": math.nan, "centre": 0.2},
        "overall": {"method": 0.2, "prior": 0.3, "centre": 0.3},
    }
    line = verdict.against_controls(scores, CONTROLS)
    assert line.startswith("no result for rv (0.118, the prior 0.322), wall (0.000, the centre 0.200): ")
    assert "lv" not in line and "overall" not in line


def test_above_all_controls_is_said_and_nothing_without_scores():
    scores = {"lv": {"method": 0.6, "prior": 0.5, "centre": 0.6}}
    assert verdict.against_controls(scores, CONTROLS) == "not below the prior or the centre on any label"
    assert verdict.against_controls({}, CONTROLS) is None


def test_what_the_network_misses_on_scans_that_it_has_learnt_from():
    assert verdict.not_learnt({"rv": 0.5, "lv": 0.9}) is None and verdict.not_learnt({}) is None
    line = verdict.not_learnt({"rv": 0.04, "lv": 0.9})
    assert line.startswith("not learnt: rv (0.04); wanted a Dice of 0.50")
