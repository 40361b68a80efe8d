"""Probabilities in the report: a table, a plot, and nothing where nothing is known."""

from __future__ import annotations

import pytest

from common.report.page import Report
from common.report.reliability import add_reliability, drawn, pooled
from common.review.calibration import Calibration

SURE, RIGHT = [(0.1, 0.3, 50), (0.9, 0.6, 50)], [(0.2, 0.3, 50), (0.7, 0.6, 50)]
FOUND = Calibration(2.0, 2.0, 5, (0.4, 0.3), {1: SURE, 2: RIGHT}, {1: RIGHT, 2: RIGHT})


def test_a_report_has_the_error_of_each_label_before_and_after(tmp_path):
    page = Report("title", tmp_path)
    add_reliability(page, FOUND, {0: "background", 1: "<left>", 2: "right"})
    text = page.write().read_text(encoding="utf-8")
    assert "&lt;left&gt;" in text and "temperature of 2.00, by 5 cases" in text
    assert '<td class="number">0.250</td><td class="number">0.100</td>' in text


def test_nothing_is_said_where_nothing_is_known(tmp_path):
    page = Report("title", tmp_path)
    add_reliability(page, Calibration(), {1: "one"})
    assert "robabilit" not in page.write().read_text(encoding="utf-8").split("<body")[1]


def test_bins_of_labels_are_pooled_by_their_voxels():
    together = pooled([[(0.1, 0.3, 50), (0.9, 0.6, 10)], [(0.1, 0.0, 100)]])
    assert together == [(pytest.approx(0.1), pytest.approx(0.1), 150), (pytest.approx(0.9), pytest.approx(0.6), 10)]
    assert pooled([[(1.0, 1.0, 5)]]) == [(1.0, 1.0, 5)]


def test_the_plot_says_both_errors(tmp_path):
    page = Report("title", tmp_path)
    add_reliability(page, FOUND, {1: "one", 2: "two"})
    text = page.write().read_text(encoding="utf-8")
    # before: .2 and .3 of 50 voxels each, .1 and .1 of 50 each; after: .1 everywhere
    assert "Error 0.175 before, 0.100 after" in text and "<svg" in text


def test_bins_of_a_few_voxels_are_not_drawn():
    assert drawn([(0.1, 1.0, 3), (0.5, 0.4, 40)]) == ([0.5], [pytest.approx(0.4)])
