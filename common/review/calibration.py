"""How far a model's probabilities come true, and the temperature that brings them nearer: part of review.json."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean

Bins = list[tuple[float, float, int]]


@dataclass
class Calibration:
    """Of a model: what its log-probabilities are divided by, and what that is worth on cases it was not fitted to.

    Attributes:
        temperature: as it is used; above 1 makes less sure. 1 where none was fitted, or where it didn't help.
        fitted: what came out, used or not.
        cases: that it is from; 0: none.
        nll: mean -log of the true class' probability over the voxels of a case, before and after; None of none.
        before, after: label value -> for each of up to 15 bins of equal width (mean probability of the label, share of
            voxels that were it, voxels), over the voxels around the label. "After" each case by what the others say.
    """

    temperature: float = 1.0
    fitted: float = 1.0
    cases: int = 0
    nll: tuple[float, float] | None = None
    before: dict[int, Bins] = field(default_factory=dict)
    after: dict[int, Bins] = field(default_factory=dict)

    @property
    def ece(self) -> tuple[float, float]:
        """The expected calibration error before and after, mean over the labels; NaN where nothing was fitted."""
        before, after = (
            mean(map(expected_error, bins.values())) if bins else math.nan for bins in (self.before, self.after)
        )
        return before, after

    def describe(self) -> str:
        """Return what it is, in words."""
        if not self.cases:
            return "probabilities as the network gives them"
        changed = f"calibration error {self.ece[0]:.3f} to {self.ece[1]:.3f} on cases left out"
        if self.temperature == 1:
            return (
                f"probabilities as the network gives them: a temperature of {self.fitted:.2f} doesn't help ({changed})"
            )
        return f"probabilities at a temperature of {self.temperature:.2f}, by {self.cases} cases ({changed})"


def expected_error(bins: Bins) -> float:
    """Return the expected calibration error: the mean of |probability - share| over voxels (Naeini et al. 2015)."""
    return sum(count * abs(said - came) for said, came, count in bins) / max(sum(count for *_, count in bins), 1)


def read_calibration(content: Mapping[str, object]) -> Calibration:
    """Return what a file says of it.

    Raises:
        TypeError, ValueError: it says something else.
    """
    found = Calibration(**content)  # type: ignore[arg-type]  # what is wrong is found below
    found.temperature, found.fitted, found.cases = float(found.temperature), float(found.fitted), int(found.cases)
    if not (0 < found.temperature < math.inf):
        raise ValueError(f"a temperature of {found.temperature}; wanted one above 0")
    if found.nll is not None:
        before, after = found.nll
        found.nll = float(before), float(after)
    found.before, found.after = _read_bins(found.before), _read_bins(found.after)
    return found


def _read_bins(content: Mapping[int, Sequence[Sequence[float]]]) -> dict[int, Bins]:
    return {int(value): [(float(p), float(s), int(n)) for p, s, n in bins] for value, bins in content.items()}
