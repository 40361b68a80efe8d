"""Plots that stand in a page as text of it: sharp at any size, in the page's colours, light or dark."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from .overlay import LINE_STYLES

if TYPE_CHECKING:  # imported where something is drawn, see overlay.py
    from matplotlib.axes import Axes

INK = "#010203"  # stands for the page's ink
SERIES = tuple(f"#0{number}0a0b" for number in range(1, 8))  # stand for its colours; `template.html` says what they are
MARKERS = ("o", "D", "^", "s")
Draw = Callable[["Axes"], None]


def plot_svg(draw: Draw, name: str, label: str, size: tuple[float, float] = (7.2, 3.2)) -> str:
    """Return what `draw` makes of an axis as an <svg> element.

    Args:
        draw: draws with matplotlib, in `INK` and the colours of `SERIES`, which become those of the page.
        name: unlike that of any other plot of the page.
        label: what is seen, for those who don't see it; escaped already.
        size: inches.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "text.parse_math": False}):
        figure = Figure(figsize=size)
        FigureCanvasSVG(figure)
        axis = figure.add_subplot()
        for part in (axis.xaxis.label, axis.yaxis.label, axis.title):
            part.set_color(INK)
        axis.tick_params(colors=INK, which="both")
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color(INK)
        axis.set_axisbelow(True)
        draw(axis)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None})
    return _for_page(file.getvalue(), name, label)


def draw_curves(series: Mapping[str, Sequence[tuple[float, float]]], step_name: str = "epoch") -> Draw:
    """Return what draws each series, name -> (step, value) pairs, as a line; values that aren't finite are left out."""

    def draw(axis: Axes) -> None:
        from matplotlib.ticker import FormatStrFormatter, MaxNLocator, NullFormatter

        values = []
        for number, (name, pairs) in enumerate(series.items()):
            finite = [(step, value) for step, value in pairs if math.isfinite(value)]
            values += [value for _, value in finite]
            axis.plot(
                *zip(*finite, strict=True) if finite else ([], []),
                label=name,
                color=SERIES[number % len(SERIES)],
                linestyle=LINE_STYLES[number // len(SERIES) % len(LINE_STYLES)],
                marker="o" if len(finite) < 3 else None,
                linewidth=1.8,
            )
        if values and min(values) > 0 and max(values) > 50 * min(values):
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter(FormatStrFormatter("%g"))
            axis.yaxis.set_minor_formatter(NullFormatter())
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_xlabel(step_name)
        axis.grid(color=INK, alpha=0.15)
        if series:
            _legend(axis, len(series))

    return draw


def draw_strips(
    strips: Mapping[str, Mapping[str, Sequence[float]]], across: str, limit: float | None = None
) -> tuple[Draw, tuple[float, float]]:
    """Return what draws a dot for each number, in a row for each strip and a colour for each series; and the size.

    Args:
        strips: row -> series -> numbers from 0 to 1; those that aren't finite are left out. A bar is their mean.
        across: what the numbers are.
        limit: where a dashed line stands.
    """
    names = list(dict.fromkeys(name for row in strips.values() for name in row))
    height = 0.9 + len(strips) * max(0.42, 0.24 * len(names))

    def draw(axis: Axes) -> None:
        for number, name in enumerate(names):
            colour = SERIES[number % len(SERIES)]
            middle = ((number + 0.5) / len(names) - 0.5) * 0.8
            points = [
                (value, row + middle + _spread(place) * 0.6 / len(names), row + middle)
                for row, of in enumerate(strips.values())
                for place, value in enumerate(sorted(v for v in of.get(name, ()) if math.isfinite(v)))
            ]
            x, y = [value for value, _, _ in points], [height for _, height, _ in points]
            axis.scatter(
                x, y, s=22, color=colour, marker=MARKERS[number % len(MARKERS)], alpha=0.75, linewidths=0, label=name
            )
            for line in dict.fromkeys(line for _, _, line in points):
                own = [value for value, _, other in points if other == line]
                half = 0.38 / len(names)
                axis.vlines(sum(own) / len(own), line - half, line + half, color=colour, linewidth=2.4)
        if limit is not None:
            axis.axvline(limit, color=INK, linestyle="dashed", linewidth=1, alpha=0.7)
        axis.set_yticks(range(len(strips)), list(strips))
        axis.set_ylim(len(strips) - 0.5, -0.5)
        axis.set_xlim(-0.02, 1.02)
        axis.set_xlabel(across)
        axis.grid(color=INK, alpha=0.15, axis="x")
        if len(names) > 1:
            _legend(axis, len(names))

    return draw, (7.2, height)


def _spread(place: int) -> float:
    """Return how far from the middle of its row a dot stands, -.4 to .4, so that dots of like numbers are apart."""
    return (place * 2 % 5 - 2) * 0.2


def _legend(axis: Axes, count: int) -> None:
    axis.legend(
        loc="lower left", bbox_to_anchor=(0, 1.0), ncols=min(count, 3), frameon=False, labelcolor=INK, borderaxespad=0.2
    )


def _for_page(svg: str, name: str, label: str) -> str:
    """Return matplotlib's file as an element: nothing from outside, ids of its own, the page's colours and type."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = svg.replace("xlink:href=", "href=").replace(INK, "currentColor")
    for number, colour in enumerate(SERIES, start=1):
        svg = svg.replace(colour, f"var(--series-{number})")
    svg = re.sub(r"font-family: [^;\"]*; ", "", svg)
    box = re.search(r'viewBox="0 0 ([\d.]+) [\d.]+"', svg)
    width = f"{float(box[1]) / 72 * 96:.0f}px" if box else "100%"  # points -> pixels
    head = f'<svg role="img" aria-label="{label}" viewBox="{box[0][9:-1] if box else ""}" style="max-width: {width}">'
    return re.sub(r"<svg[^>]*>", lambda _: head, svg, count=1).strip()
