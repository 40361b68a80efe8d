"""How far probabilities come true, in the report: a table and a reliability diagram."""

from __future__ import annotations

import io
from collections.abc import Mapping

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..review.calibration import Bins, Calibration, expected_error
from .overlay import COLOURS, LINE_STYLES
from .page import Report

SECTION = "Probabilities"
FEWEST = 20  # voxels, from which on a bin is drawn
ORDER = (6, 5, 2, 4, 0, 1, 3)  # of the palette: the dark ones first, on white paper
NOTE = (
    "Expected calibration error: how far a label's probability and the share of voxels that are the label lie apart, "
    "mean over 15 bins by their voxels, around the label (its truth and prediction, grown by two voxels). After: each "
    "case by a temperature that the others gave."
)


def add_reliability(page: Report, calibration: Calibration, names: Mapping[int, str]) -> None:
    """Add a section on the probabilities to a report; nothing where no case has told of them.

    Args:
        page: of a training.
        calibration: of its model.
        names: of label values.
    """
    if not calibration.cases:
        return
    page.add_text(f"Saved: {calibration.describe()}. The masks are the same either way.", section=SECTION)
    rows = [{"label": names.get(value, str(value)), "error before": expected_error(bins),
             "error after": expected_error(calibration.after[value])}
            for value, bins in calibration.before.items()]  # fmt: skip
    page.add_table("Expected calibration error on validation cases", rows, NOTE, section=SECTION)
    caption = "Reliability: of voxels with a probability, the share that is the label; on the diagonal it comes true"
    page.add_overlay(caption, reliability_png(calibration, names), section=SECTION)


def reliability_png(calibration: Calibration, names: Mapping[int, str]) -> bytes:
    """Draw the share of voxels that were a label over its probability, before and after, and return the PNG."""
    figure = Figure(figsize=(8.4, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2, sharey=True)
    for axis, title, labels in zip(axes, ("before", "after"), (calibration.before, calibration.after), strict=True):
        axis.plot([0, 1], [0, 1], color="#888888", linewidth=1)
        for number, (value, bins) in enumerate(labels.items()):
            axis.plot(
                *drawn(bins),
                label=names.get(value, str(value)),
                color=COLOURS[ORDER[number % len(COLOURS)]],
                linestyle=LINE_STYLES[number // len(COLOURS) % len(LINE_STYLES)],
                marker="o",
                markersize=3,
            )
        axis.set(title=title, xlabel="probability", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes[0].set_ylabel("share of voxels that are the label")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=100, metadata={"Software": None})
    return png.getvalue()


def drawn(bins: Bins) -> tuple[list[float], list[float]]:
    """Return probabilities and shares of the bins that have enough voxels to tell."""
    kept = [(said, came) for said, came, count in bins if count >= FEWEST]
    return [said for said, _ in kept], [came for _, came in kept]
