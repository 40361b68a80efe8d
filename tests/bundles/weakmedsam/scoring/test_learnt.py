from __future__ import annotations

from support.bundle.path import import_bundle

not_learnt = import_bundle("weakmedsam", "scoring.learnt").not_learnt


def test_what_the_network_misses_on_scans_that_it_has_learnt_from():
    assert not_learnt({"rv": 0.5, "lv": 0.9}) is None and not_learnt({}) is None
    line = not_learnt({"rv": 0.04, "lv": 0.9})
    assert line.startswith("not learnt: rv (0.04); wanted a Dice of 0.50")
