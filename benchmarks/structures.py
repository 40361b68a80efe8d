"""Scores by structure: which label of which case, how large it is in truth, and tables by label and by size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.data.utils import affine_to_spacing

from common.scoring.metrics import case_metrics
from common.volumes.label import read_label

SIZES = {"under 3 ml": (0.0, 3.0), "3-10 ml": (3.0, 10.0), "10-50 ml": (10.0, 50.0), "over 50 ml": (50.0, math.inf)}
DICE = "dice"
Row = dict[str, Any]


def truth(case: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return the label map [H, W, D] of a case and the spacing of its voxels, mm."""
    label = read_label(case["label"])
    return np.asarray(label.array), affine_to_spacing(np.asarray(label.affine, dtype=float), r=3)


def volumes(label: np.ndarray, spacing: np.ndarray, values: Iterable[int]) -> dict[int, float]:
    """Return the volume of each label, ml."""
    voxel = float(np.prod(spacing)) / 1000
    return {value: int((label == value).sum()) * voxel for value in values}


def score_case(case: Mapping[str, Any], pred: np.ndarray, labels: Mapping[int, str]) -> Iterator[Row]:
    """Yield a row for each label of a case: `case`, `label`, `name`, `ml` in truth, Dice, HD95 and ASSD in mm.

    Args:
        case: with `case` and `label`.
        pred: [H, W, D] label values on the voxels of the label.
        labels: value -> name; a background is left out.
    """
    label, spacing = truth(case)
    ml = volumes(label, spacing, labels)
    for value, scores in case_metrics(pred, label, spacing, labels).items():
        yield {"case": case["case"], "label": value, "name": labels[value], "ml": ml[value], **scores}


def with_volumes(rows: Iterable[Mapping[str, Any]], cases: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Return the rows of a bundle's metrics.json with the true volume (`ml`) of each."""
    rows = [dict(row) for row in rows]
    values = {row["label"] for row in rows}
    known = {case["case"]: volumes(*truth(case), values) for case in cases}
    return [{**row, "ml": known[row["case"]][row["label"]]} for row in rows]


def answers(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the columns of Dice: the prediction's and those of what stands beside it."""
    names = dict.fromkeys(name for row in rows for name in row if DICE in name.replace("_", " ").split())
    return [DICE, *(name for name in names if name != DICE)]


def mean(numbers: Iterable[float | None]) -> float:
    """Return the mean of what is known; NaN where nothing is."""
    known = [number for number in numbers if number is not None and not math.isnan(number)]
    return float(np.mean(known)) if known else math.nan


def mean_of_cases(rows: Iterable[Mapping[str, Any]], column: str = DICE) -> dict[str, float]:
    """Return the mean over the labels of each case."""
    by_case: dict[str, list[float | None]] = {}
    for row in rows:
        by_case.setdefault(row["case"], []).append(row.get(column))
    return {case: mean(values) for case, values in by_case.items()}


def overall(rows: Iterable[Mapping[str, Any]], column: str = DICE) -> float:
    """Return the mean over the cases of their means over the labels."""
    return mean(mean_of_cases(rows, column).values())


def by_label(rows: Iterable[Mapping[str, Any]], column: str = DICE) -> dict[str, float]:
    """Return the mean of each label over the cases."""
    rows = list(rows)
    names = dict.fromkeys(row["name"] for row in rows)
    return {name: mean(row.get(column) for row in rows if row["name"] == name) for name in names}


def by_size(rows: Iterable[Mapping[str, Any]], column: str = DICE) -> dict[str, float]:
    """Return the mean over all structures (a label in a case) of each size in truth; one that is not there is none."""
    rows = list(rows)
    return {
        size: mean(row.get(column) for row in rows if row["ml"] > 0 and least <= row["ml"] < most)
        for size, (least, most) in SIZES.items()
    }


def count_sizes(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Return how many structures there are of each size."""
    sizes = [row["ml"] for row in rows if row["ml"] > 0]
    return {name: sum(least <= ml < most for ml in sizes) for name, (least, most) in SIZES.items()}


def prediction(path: Path) -> np.ndarray:
    """Return the label map [H, W, D] of a file."""
    return np.asarray(read_label(str(path)).array)
