"""Curves of a run as a picture that stays sharp in print."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence

from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .overlay import COLOURS, LINE_STYLES

INK = {"light": "#1b1f24", "dark": "#e6e8eb"}
# yellow and light blue are hard to see on white paper: the dark ones of the palette come first there
ORDER = {"light": (6, 5, 2, 4, 0, 1, 3), "dark": (1, 0, 2, 4, 3, 5, 6)}


def curves_svg(
    series: Mapping[str, Sequence[tuple[float, float]]], step_name: str = "epoch", scheme: str = "light"
) -> bytes:
    """Draw each series as a line and return an SVG with a transparent ground.

    Args:
        series: name -> (step, value) pairs; values that are not finite are left out.
        step_name: what a step is, the name of the axis across.
        scheme: "light" or "dark", the page it stands on.
    """
    ink = INK[scheme]
    figure = Figure(figsize=(7.2, 3.4))
    FigureCanvasSVG(figure)
    axis = figure.add_subplot()
    values = []
    for number, (name, pairs) in enumerate(series.items()):
        finite = [(step, value) for step, value in pairs if math.isfinite(value)]
        values += [value for _, value in finite]
        axis.plot(
            *zip(*finite, strict=True) if finite else ([], []),
            label=name,
            color=COLOURS[ORDER[scheme][number % len(COLOURS)]],
            linestyle=LINE_STYLES[number // len(COLOURS) % len(LINE_STYLES)],
            marker="o" if len(finite) < 3 else None,
            linewidth=1.8,
        )
    if values and min(values) > 0 and max(values) > 50 * min(values):
        axis.set_yscale("log")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel(step_name, color=ink)
    axis.tick_params(colors=ink, which="both")
    axis.grid(color=ink, alpha=0.15)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(ink)
    if series:
        columns = min(len(series), 4)
        axis.legend(
            loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, frameon=False, labelcolor=ink, borderaxespad=0.2
        )
    svg = io.BytesIO()
    figure.savefig(svg, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None})
    return svg.getvalue()
