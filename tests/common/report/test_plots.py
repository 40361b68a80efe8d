from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest

from common.report.plots import INK, SERIES, draw_curves, draw_strips, plot_svg


def drawn(series, name="plot-1"):
    return plot_svg(draw_curves(series), name, "what it shows")


def test_is_an_element_in_the_colours_of_the_page_and_knows_nothing_outside():
    svg = drawn({"loss": [(1, 2.0), (2, 1.0)], "dice": [(1, 0.1), (2, 0.2)]})
    root = ElementTree.fromstring(svg)
    assert root.tag == "svg" and root.attrib["aria-label"] == "what it shows" and root.attrib["role"] == "img"
    assert "currentColor" in svg and "var(--series-1)" in svg and "var(--series-2)" in svg
    assert not [colour for colour in (INK, *SERIES) if colour in svg] and "http" not in svg and "<style" not in svg
    assert {"loss", "dice", "epoch"} <= {text.text for text in root.iter("text")}


def test_two_plots_of_a_page_share_no_id():
    ids = [set(re.findall(r'\bid="([^"]+)"', drawn({"a": [(1, 1.0), (2, 2.0)]}, name))) for name in ("p-1", "p-2")]
    assert ids[0] and not ids[0] & ids[1]
    pointed = re.findall(r'(?:href="#|url\(#)([^")]+)', drawn({"a": [(1, 1.0), (2, 2.0)]}, "p-1"))
    assert pointed and set(pointed) <= ids[0]


@pytest.mark.parametrize(
    "series", [{}, {"a": []}, {"a": [(1, float("nan"))]}, {"a": [(1, 3.0)]}, {"a": [(1, -1), (2, 900)]}]
)
def test_few_or_odd_values_are_drawn(series):
    assert ElementTree.fromstring(drawn(series)).tag == "svg"


def test_not_finite_values_are_left_out():
    kept = [(1, 1.0), (3, 2.0)]
    assert drawn({"a": [kept[0], (2, float("inf")), kept[1]]}) == drawn({"a": kept})


def test_numbers_over_decades_are_written_as_numbers():
    texts = [text.text for text in ElementTree.fromstring(drawn({"a": [(1, 1.0), (2, 0.001)]})).iter("text")]
    assert "0.01" in texts and not any("$" in text for text in texts)


def places(svg: str, series: int) -> list[tuple[float, float]]:
    """Return where the dots of a series are, in the plot's points."""
    dots = rf'<use [^>]*x="([\d.]+)" y="([\d.]+)" style="fill: var\(--series-{series}\)'
    return [(float(x), float(y)) for x, y in re.findall(dots, svg)]


def test_a_strip_has_a_dot_for_each_number_at_its_place():
    strips = {"liver": {"method": [0.5, 1.0, float("nan")], "plain": [0.25]}, "<b>": {"method": [0.0], "plain": []}}
    draw, size = draw_strips(strips, "Dice", 0.7)
    svg = plot_svg(draw, "plot-1", "x", size)
    first, second = places(svg, 1)[:-1], places(svg, 2)[:-1]  # the last one is the legend's
    assert len(first) == 3 and len(second) == 1
    # of the row above: half way, the end; of the row below: the start
    (half, top), (end, _), (start, below) = first
    assert half - start == pytest.approx((end - start) / 2, rel=1e-3) and below > top
    assert second[0][0] - start == pytest.approx((end - start) / 4, rel=1e-3)
    assert ElementTree.fromstring(svg) is not None and size[1] > draw_strips({"a": {"b": [1.0]}}, "x")[1][1]
