from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from common.report.curves import INK, curves_svg


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_is_an_svg_in_the_ink_of_the_page(scheme):
    svg = curves_svg({"loss": [(1, 2.0), (2, 1.0)], "dice": [(1, 0.1), (2, 0.2)]}, scheme=scheme)
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert INK[scheme] in svg.decode()


@pytest.mark.parametrize(
    "series", [{}, {"a": []}, {"a": [(1, float("nan"))]}, {"a": [(1, 3.0)]}, {"a": [(1, -1), (2, 900)]}]
)
def test_few_or_odd_values_are_drawn(series):
    assert b"<svg" in curves_svg(series)


def test_not_finite_values_are_left_out():
    kept = [(1, 1.0), (3, 2.0)]
    with_nan = curves_svg({"a": [kept[0], (2, float("inf")), kept[1]]})
    line = 'd="M'
    assert with_nan.decode().count(line) == curves_svg({"a": kept}).decode().count(line)
    assert b"inf" not in with_nan and b"nan" not in with_nan
