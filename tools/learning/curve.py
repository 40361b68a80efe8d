"""The learning curve of a few runs: which Dice more labels let expect, and how sure that is."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar, nnls

RATE = 0.5  # exponent where it can't be told: that of the error of a mean of independent examples
RATES = (0.25, 1.0)  # within which it is drawn then: what learning curves of networks lie between
STEEPEST = 2.0  # up to which it is looked for: a network that fails with one label and works with four
TELLING = 4  # different numbers of labels, from which on the exponent is fitted
# Standard deviation of the Dice of runs alike but for their draw, and as how many observed runs it counts: three draws
# each of 1, 2, 4 and 8 labels, left atrium and hippocampus, docs/few_label.md. One run a number tells next to nothing.
SPREAD, OBSERVED = 0.04, 4
RESAMPLINGS = 1000
RANGE = (0.05, 0.95)  # quantiles: 90 % of runs like these


@dataclass(frozen=True)
class Curve:
    """1 - Dice = floor + fall n^-rate, with n labels: what is left of the error, and what labels take off it.

    Attributes:
        floor, fall: 0 or more; with a fall of 0 the Dice doesn't rise.
        rate: the exponent.
        fitted: whether the rate was fitted; else it is assumed.
    """

    floor: float
    fall: float
    rate: float
    fitted: bool

    def __call__(self, labels: ArrayLike) -> np.ndarray:
        """Return the Dice with so many labels, of their shape; 0 at least."""
        return np.clip(1 - self.floor - self.fall * np.asarray(labels, dtype=float) ** -self.rate, 0, 1)

    @property
    def rises(self) -> bool:
        return bool(self(4) - self(1) > 1e-6)


@dataclass(frozen=True)
class Expected:
    """What runs with more labels would reach.

    Attributes:
        curve: through the measured runs.
        labels: for which it is asked.
        dice: of the curve there.
        low, high: between which 90 % of such runs lie on such scans, by resampling.
        rising: share of the resamplings whose curve rises.
        spread: standard deviation of a run's Dice about the curve, `SPREAD` and the runs' own by their number.
        surplus: how many more runs there are than parameters; with 0 the spread is `SPREAD`.
    """

    curve: Curve
    labels: list[int]
    dice: np.ndarray
    low: np.ndarray
    high: np.ndarray
    rising: float
    spread: float
    surplus: int


def fit_curve(labels: ArrayLike, dice: ArrayLike, rate: float | None = None) -> Curve:
    """Fit a curve by least squares, each run the same weight.

    Two or three numbers of labels can't tell three parameters: an exponent and the Dice at which a curve ends make up
    for one another. The exponent is then `RATE`, or `rate`; from `TELLING` different numbers on it is fitted, too, and
    where that exponent leaves no floor, so that the runs rise faster than it can: two parameters are left then.

    Args:
        labels: [runs].
        dice: [runs], their means.
        rate: the exponent, where it is not to be fitted.
    """
    labels, dice = np.asarray(labels, dtype=float), np.asarray(dice, dtype=float)
    fitted = rate is None and can_tell_rate(labels)
    lowest = RATES[0] if fitted else RATE if rate is None else rate
    (floor, fall), _ = _solve(labels, dice, lowest)
    rate = lowest
    if fitted or (floor == 0 and lowest < STEEPEST):
        rate = float(minimize_scalar(
            lambda r: _solve(labels, dice, r)[1], bounds=(lowest, STEEPEST), method="bounded", options={"xatol": 0.01}
        ).x)  # fmt: skip
        (floor, fall), _ = _solve(labels, dice, rate)
    return Curve(float(floor), float(fall), rate, fitted)


def can_tell_rate(labels: ArrayLike) -> bool:
    """Return whether there are enough different numbers of labels to fit the exponent."""
    return len(np.unique(np.asarray(labels))) >= TELLING


def expect(labels: Sequence[int], scores: np.ndarray, more: Sequence[int], seed: int = 0) -> Expected:
    """Return the Dice that more labels let expect, with an interval.

    A resampling draws the cases anew, the same for all runs, as they are paired; it adds to each run, the future ones
    as well, what another draw would change; and it draws the exponent where that can't be fitted. How much draws change
    is a guess that the runs correct: a scaled inverse chi-square of `SPREAD` with `OBSERVED` degrees of freedom and of
    what the runs lie off the curve. The interval holds for one more run like these, on other such scans.

    Args:
        labels: [runs], how many each had.
        scores: [runs, cases], Dice; NaN where a case has none.
        more: numbers of labels.
        seed: of the resamplings.
    """
    random = np.random.default_rng(seed)
    counts, asked = np.asarray(labels, dtype=float), np.asarray(more, dtype=float)
    means = _means(scores)
    curve = fit_curve(counts, means)
    surplus = len(counts) - (3 if curve.fitted else 2)
    squares = OBSERVED * SPREAD**2 + float(((means - curve(counts)) ** 2).sum())
    freedom = OBSERVED + surplus
    found, rising = np.zeros((RESAMPLINGS, len(asked))), 0
    for row in range(RESAMPLINGS):
        drawn = scores[:, random.integers(scores.shape[1], size=scores.shape[1])]
        noise = np.sqrt(squares / random.chisquare(freedom))
        shown = np.where(np.isnan(_means(drawn)), means, _means(drawn)) + noise * random.normal(size=len(counts))
        rate = None if curve.fitted else float(np.exp(random.uniform(*np.log(RATES))))
        one = fit_curve(counts, np.clip(shown, 0, 1), rate)
        rising += one.rises
        found[row] = np.clip(one(asked) + noise * random.normal(size=len(asked)), 0, 1)
    low, high = np.quantile(found, RANGE, axis=0)
    dice = curve(asked)  # the noise may lie to one side of it, since a Dice ends at 1
    low, high = np.minimum(low, dice), np.maximum(high, dice)
    return Expected(curve, list(more), dice, low, high, rising / RESAMPLINGS, (squares / freedom) ** 0.5, surplus)


def _solve(labels: np.ndarray, dice: np.ndarray, rate: float) -> tuple[np.ndarray, float]:
    """Return (floor, fall) of one exponent, neither below 0, and the norm of what is left."""
    return nnls(np.stack([np.ones_like(labels), labels**-rate], axis=1), 1 - dice)


def _means(scores: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a resampling may draw nothing but cases without a Dice
        return np.nanmean(scores, axis=1)
