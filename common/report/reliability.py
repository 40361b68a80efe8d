"""How far probabilities come true, in the report: a table and a reliability diagram."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ..review.calibration import Bins, Calibration, expected_error
from .page import CERTAINTY, Report
from .plots import INK, SERIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEWEST = 20  # voxels, from which on a bin is drawn
BINS = 15
NOTE = (
    "Expected calibration error: how far a structure's probability and the share of voxels that are the structure lie "
    "apart, mean over 15 bins by their voxels, around it (its truth and prediction, grown by two voxels). After: each "
    "scan by a temperature that the others gave."
)
TITLE = "Of voxels with a probability, the share that is the structure; on the straight line it comes true"


def add_reliability(page: Report, calibration: Calibration, names: Mapping[int, str]) -> None:
    """Add a section on the probabilities to a report; nothing where no case has told of them.

    Args:
        page: of a training.
        calibration: of its model.
        names: of label values.
    """
    if not calibration.cases:
        return
    page.add_text(f"Saved: {calibration.describe()}. The masks are the same either way.", section=CERTAINTY)
    before, after = (pooled(labels.values()) for labels in (calibration.before, calibration.after))

    def draw(axis: Axes) -> None:
        axis.plot([0, 1], [0, 1], color=INK, linewidth=1, alpha=0.5)
        for number, (name, bins) in enumerate({"before": before, "after": after}.items()):
            axis.plot(*drawn(bins), label=name, color=SERIES[number], linestyle=("dashed", "solid")[number], marker="o")
        axis.set(xlabel="probability", ylabel="share that is it", xlim=(0, 1), ylim=(0, 1))
        axis.grid(color=INK, alpha=0.15)
        axis.legend(frameon=False, labelcolor=INK)

    error = [expected_error(bins) for bins in (before, after)]
    page.add_plot(TITLE, draw, f"Error {error[0]:.3f} before, {error[1]:.3f} after.", CERTAINTY, (4.6, 4.2))
    rows = [{"structure": names.get(value, str(value)), "error before": expected_error(bins),
             "error after": expected_error(calibration.after[value])}
            for value, bins in calibration.before.items()]  # fmt: skip
    page.add_table("Expected calibration error on validation scans", rows, NOTE, section=CERTAINTY)


def pooled(labels: Iterable[Bins]) -> Bins:
    """Return the bins of all labels together, each (mean probability, share of voxels that are it, voxels)."""
    sums: dict[int, tuple[float, float, int]] = {}
    for said, came, count in (one for bins in labels for one in bins):
        number = min(int(said * BINS), BINS - 1)
        before = sums.get(number, (0.0, 0.0, 0))
        sums[number] = before[0] + said * count, before[1] + came * count, before[2] + count
    return [(said / count, came / count, count) for _, (said, came, count) in sorted(sums.items()) if count]


def drawn(bins: Bins) -> tuple[list[float], list[float]]:
    """Return probabilities and shares of the bins that have enough voxels to tell."""
    kept = [(said, came) for said, came, count in bins if count >= FEWEST]
    return [said for said, _ in kept], [came for _, came in kept]
