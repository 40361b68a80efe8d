"""What more labels would bring: a structure's curve, its check, and what is doubtful about it, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from common.scoring.metrics import percent, share_under

from .curve import OBSERVED, RATES, SPREAD, Expected, can_tell_rate, expect
from .runs import LabelledRun, other_settings

COST = "minutes_per_volume"
SURE = 0.9  # share of resamplings that rise, below which it is said
SHOWN = 3  # settings that differ


def learning_curve(
    runs: Sequence[LabelledRun], structure: str, more: Sequence[int], limit: float, minutes: float
) -> dict[str, Any]:
    """Return what a structure's Dice was and is expected to be, for JSON.

    Args:
        runs: of `read_runs`.
        structure: a label's name, or "overall".
        more: numbers of labels to look ahead to.
        limit: of `under`.
        minutes: of annotation, for a volume.

    Returns:
        measured: for each number of labels runs, dice, under, curve (what is fitted there), minutes; expected: the same
        for more labels with low and high; curve; check: the same from all but the most labels; notes: in sentences.
        `expected` is empty where the Dice doesn't rise.
    """
    labels = [run.labels for run in runs]
    scores = np.array([run.scores(structure) for run in runs])
    counts = sorted(set(labels))
    if np.isnan(scores).all(axis=1).any():
        return {"structure": structure, "measured": [], "expected": [], "curve": None, "check": None,
                "notes": [f"{structure}: a run has no Dice of it, so that there is no curve"]}  # fmt: skip
    found = expect(labels, scores, more)
    measured = []
    for count in counts:
        own = scores[[row for row, other in enumerate(labels) if other == count]]
        runs_mean = float(np.nanmean(own, axis=1).mean())
        measured.append({
            "labels": count, "runs": len(own), "dice": runs_mean, "under": share_under(own.ravel(), limit),
            "curve": float(found.curve(count)), "minutes": count * minutes,
        })  # fmt: skip
    expected = [
        {"labels": count, "dice": float(dice), "low": float(low), "high": float(high), "minutes": count * minutes}
        for count, dice, low, high in zip(more, found.dice, found.low, found.high, strict=True)
    ]
    return {
        "structure": structure,
        "measured": measured,
        "expected": expected if rises_on(found, [row["dice"] for row in measured]) else [],
        "curve": {"floor": found.curve.floor, "fall": found.curve.fall, "rate": found.curve.rate,
                  "rate_fitted": found.curve.fitted, "spread": found.spread, "rising": found.rising},
        "check": check_curve(labels, scores),
        "notes": notes(structure, measured, found),
    }  # fmt: skip


def check_curve(labels: Sequence[int], scores: np.ndarray) -> dict[str, float | None] | None:
    """Return the Dice with the most labels, and what the fewer ones predict; None with two numbers of labels.

    The prediction is None where the Dice doesn't rise with the fewer labels alone.
    """
    most = max(labels)
    fewer = [row for row, count in enumerate(labels) if count < most]
    if len({labels[row] for row in fewer}) < 2:
        return None
    rest = [row for row in range(len(labels)) if row not in fewer]
    measured = float(np.nanmean(scores[rest], axis=1).mean())
    found = expect([labels[row] for row in fewer], scores[fewer], [most])
    known: dict[str, float | None] = {
        "predicted": float(found.dice[0]),
        "low": float(found.low[0]),
        "high": float(found.high[0]),
    }
    said = known if found.curve.rises else dict.fromkeys(known)
    return {"labels": most, **said, "measured": measured}


def notes(structure: str, measured: Sequence[Mapping[str, Any]], found: Expected) -> list[str]:
    """Return what is doubtful about a curve, in sentences."""
    means = ", ".join(f"{row['dice']:.3f}" for row in measured)
    counts = ", ".join(str(row["labels"]) for row in measured)
    shown = f"({means} with {counts} labels)"
    wanted = "runs of other seeds for each number would tell noise from learning"
    dice = [row["dice"] for row in measured]
    lines = []
    if not found.curve.rises:
        lines.append(f"the Dice doesn't rise with the labels {shown}, so nothing is expected of more")
    elif not rises_on(found, dice):
        less = f"a curve through that has less with {min(found.labels)} ({found.dice.min():.3f}) than was measured"
        lines.append(f"the Dice doesn't rise steadily {shown}: {less}, so nothing is expected of more")
    else:
        if dice != sorted(dice):
            lines.append(f"the Dice doesn't rise at every step {shown}")
        if found.rising < SURE:
            lines.append(f"in {percent(1 - found.rising)} of the resamplings the Dice doesn't rise at all")
    return [f"{structure}: {line}; {wanted}" for line in lines]


def rises_on(found: Expected, dice: Sequence[float]) -> bool:
    """Return whether a curve rises, and with more labels over the best of the measured means."""
    return found.curve.rises and bool(found.dice.min() > max(dice))


def common_notes(runs: Sequence[LabelledRun], more: Sequence[int], minutes: float) -> list[str]:
    """Return what is to be known of all curves, in sentences."""
    counts = [run.labels for run in runs]
    fitted = can_tell_rate(counts)
    lines = [
        f"curve: 1 - Dice = floor + fall n^-rate; {len(set(counts))} different numbers of labels "
        + ("tell the rate, roughly" if fitted else f"can't tell the rate: 1/2, for the interval {RATES[0]:g} to 1"),
        f"interval: of further runs alike. A draw's own effect is {SPREAD:g} by docs/few_label.md, which counts as "
        f"{OBSERVED} runs, corrected by {max(0, len(runs) - (3 if fitted else 2))} of these",
        f"annotation: {minutes:g} minutes a volume, an assumption: --{COST} says what yours take",
    ]
    scans = min((run.scans for run in runs if run.scans is not None), default=None)
    if scans is not None and more[-1] > scans:
        lines.append(f"scans: there are {scans} to label in the runs' data; more would bring new scans as well")
    differ = other_settings(runs)
    if differ:
        rest = f", and {len(differ) - SHOWN} more" if len(differ) > SHOWN else ""
        lines.append(f"warning: the runs differ in more than their labels: {'; '.join(differ[:SHOWN])}{rest}")
    return lines
