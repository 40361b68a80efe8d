"""Probabilities in the report: a table, a picture, and nothing where nothing is known."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from common.report.page import Report
from common.report.reliability import add_reliability, drawn, reliability_png
from common.review.calibration import Calibration

SURE, RIGHT = [(0.1, 0.3, 50), (0.9, 0.6, 50)], [(0.2, 0.3, 50), (0.7, 0.6, 50)]
FOUND = Calibration(2.0, 2.0, 5, (0.4, 0.3), {1: SURE, 2: RIGHT}, {1: RIGHT, 2: RIGHT})


def test_a_report_has_the_error_of_each_label_before_and_after(tmp_path):
    page = Report("title", tmp_path)
    add_reliability(page, FOUND, {0: "background", 1: "<left>", 2: "right"})
    text = page.write().read_text(encoding="utf-8")
    assert "&lt;left&gt;" in text and "temperature of 2.00, by 5 cases" in text and "image/png" in text
    assert '<td class="number">0.250</td><td class="number">0.100</td>' in text


def test_nothing_is_said_where_nothing_is_known(tmp_path):
    page = Report("title", tmp_path)
    add_reliability(page, Calibration(), {1: "one"})
    assert "robabilit" not in page.write().read_text(encoding="utf-8").split("<body")[1]


def test_the_picture_is_a_png_and_differs_with_the_bins():
    names = {1: "one", 2: "two"}
    pixels = [np.asarray(Image.open(io.BytesIO(reliability_png(found, names)))) for found in
              (FOUND, Calibration(2.0, 2.0, 5, (0.4, 0.3), {1: RIGHT, 2: RIGHT}, FOUND.after))]  # fmt: skip
    half = pixels[0].shape[1] * 2 // 5
    assert (pixels[0][:, :half] != pixels[1][:, :half]).any()


def test_bins_of_a_few_voxels_are_not_drawn():
    assert drawn([(0.1, 1.0, 3), (0.5, 0.4, 40)]) == ([0.5], [pytest.approx(0.4)])
