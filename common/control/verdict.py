"""Is the method better than its plain control? Paired over the cases that were scored."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import wilcoxon

from ..scoring.compared import Compared

LEAST_CASES = 6  # of fewer no two-sided p is below 0.05
LEVEL = 0.05
DIGITS = 3  # of a Dice: less is no difference
BETTER, BELOW, OPEN = "better", "below", "open"


@dataclass(frozen=True)
class Verdict:
    """How a method fares beside one control: Dice, the mean over the cases' means over their labels.

    Attributes:
        control: title of the control.
        method_dice, control_dice: means over the same cases and labels.
        gain: the former less the latter.
        cases, better_on: how many cases, and on how many of them the method's Dice is the higher one.
        p: of Wilcoxon's signed-rank test, two-sided; None where there are fewer than 6 cases.
        below_on: label -> both means, of several labels those on which the method's is lower.
        verdict: "better": a gain with p < 0.05; "below": a loss of .001 or more, whatever its p; "open": all else.
        text: all of it in a sentence.
    """

    control: str
    method_dice: float
    control_dice: float
    gain: float
    cases: int
    better_on: int
    p: float | None
    below_on: dict[str, tuple[float, float]]
    verdict: str
    text: str

    def as_dict(self) -> dict[str, Any]:
        """Return it for run.json."""
        return asdict(self)


def judge(rows: Iterable[Mapping[str, Any]], title: str, controls: Sequence[Compared]) -> list[Verdict]:
    """Return a verdict on each control that was scored, the strongest control first.

    Args:
        rows: of the metrics table, with `case`, `name` of the label, `dice` and the controls' columns.
        title: of the method.
        controls: see `Compared.control`.
    """
    rows = list(rows)
    found = [(control, pair_means(rows, control.column, "case")) for control in controls]
    verdicts = [_judge(title, c, pairs, labels_below(rows, c.column)) for c, pairs in found if pairs]
    return sorted(verdicts, key=lambda verdict: -verdict.control_dice)


def pair_means(rows: Iterable[Mapping[str, Any]], column: str, by: str) -> dict[str, tuple[float, float]]:
    """Return by `case`, or by `name` of the label, the mean Dice of the method and of a column where both are known."""
    pairs: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        pair = float(row["dice"]), float(row.get(column, math.nan))
        if not any(map(math.isnan, pair)):
            pairs.setdefault(row[by], []).append(pair)
    return {
        key: (float(np.mean([a for a, _ in own])), float(np.mean([b for _, b in own]))) for key, own in pairs.items()
    }


def labels_below(rows: Iterable[Mapping[str, Any]], column: str) -> dict[str, tuple[float, float]]:
    """Return of several labels those on which the method's mean Dice is lower than a column's, with both."""
    means = pair_means(rows, column, "name")
    below = {name: pair for name, pair in means.items() if round(pair[0] - pair[1], DIGITS) < 0}
    return below if len(means) > 1 else {}


def _judge(
    title: str, control: Compared, pairs: Mapping[str, tuple[float, float]], below_on: dict[str, tuple[float, float]]
) -> Verdict:
    method, plain = np.array(list(pairs.values())).T
    differences = method - plain
    gain, cases, better_on = float(differences.mean()), len(differences), int((differences > 0).sum())
    p = None
    if cases >= LEAST_CASES:  # the test itself knows no answer where nothing differs
        p = float(wilcoxon(differences).pvalue) if differences.any() else 1.0
    sure = p is not None and p < LEVEL
    # ranks and means may point to different sides
    verdict = BELOW if round(gain, DIGITS) < 0 else BETTER if sure and np.median(differences) > 0 else OPEN
    tested = "too few cases for a test" if p is None else f"paired Wilcoxon p = {p:.2g}"
    said = (
        f"{title} {method.mean():.3f}, {control.title} {plain.mean():.3f}: {gain:+.3f} on {_counted(cases)} "
        f"(higher on {better_on}), {tested}"
    )
    if below_on:
        said += f"; lower on {', '.join(f'{name} ({a:.3f}, {b:.3f})' for name, (a, b) in below_on.items())}"
    if verdict == BELOW:
        better = "better" if sure else "not worse, as far as these cases tell, and simpler"
        said += f". The control is {better}: {control.control}"
    elif verdict == OPEN:
        said += ": no difference that these cases can tell"
    means = float(method.mean()), float(plain.mean())
    return Verdict(control.title, *means, gain, cases, better_on, p, below_on, verdict, said)


def _counted(cases: int) -> str:
    return f"{cases} case{'s' if cases != 1 else ''}"
