"""The metrics of many cases as a table, in files and in the terminal."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Mapping

import monai
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import printable
from ..files.atomic_write import write_atomic
from .metrics import EMPTY_RULE, METRICS, POOR, percent, share_under, under_title


class MetricsTable:
    """Collect the metrics of cases, one row a case and label, and summarise, save and print them.

    Args:
        label_names: name of each label value; keys may be strings as in dataset.json; value 0 is left out.
    """

    def __init__(self, label_names: Mapping[int, str] | Mapping[str, str]) -> None:
        self.label_names = {int(value): str(name) for value, name in label_names.items() if int(value) != 0}
        self.rows: list[dict] = []
        self.skipped: list[str] = []

    def add(self, case: str, metrics: Mapping[int, Mapping[str, float]], **extra: float | Mapping[int, float]) -> None:
        """Add a case; `metrics` come from `case_metrics`, an `extra` column is a number or one for each label value."""
        for value, scores in metrics.items():
            row = {"case": case, "label": value, "name": self.label_names.get(value, str(value)), **scores}
            for column, number in extra.items():
                row[column] = number.get(value, math.nan) if isinstance(number, Mapping) else number
            self.rows.append(row)

    def skip(self, case: str) -> None:
        """Note a case that has no label to score it with."""
        self.skipped.append(case)

    @property
    def untold(self) -> dict[str, list[int]]:
        """The label values that a scored case has no row of, for its mask doesn't tell about them (`known_labels`)."""
        told: dict[str, set[int]] = {}
        for row in self.rows:
            told.setdefault(row["case"], set()).add(row["label"])
        lacking = {case: [value for value in self.label_names if value not in own] for case, own in told.items()}
        return {case: values for case, values in lacking.items() if values}

    @property
    def columns(self) -> list[str]:
        """The numeric columns: the metrics, then the extra columns in the order of their first appearance."""
        seen = dict.fromkeys(METRICS)
        for row in self.rows:
            seen.update(dict.fromkeys(row))
        return [column for column in seen if column not in ("case", "label", "name")]

    def summary(self) -> dict[str, dict[str, dict[str, float]]]:
        """Return {label name or "overall": {column: {mean, sd, min, max, count, excluded}}}; of a Dice `under`, too.

        Per label the statistics run over cases. Overall they run over the cases' means over their labels; `excluded`
        counts the rows (case and label) that were NaN. sd is that of a sample (n - 1). `under` is the share of the
        cases whose Dice, overall their mean over the labels, is under `POOR`: a mean of .80 may hide a useless fifth.
        """
        result = {}
        for value in dict.fromkeys([*self.label_names, *(row["label"] for row in self.rows)]):
            rows = [row for row in self.rows if row["label"] == value]
            result[self.label_names.get(value, str(value))] = {
                column: _statistics(column, (row.get(column, math.nan) for row in rows)) for column in self.columns
            }
        overall = {}
        for column in self.columns:
            cases: dict[str, list[float]] = {}
            for row in self.rows:
                cases.setdefault(row["case"], []).append(row.get(column, math.nan))
            scores = [_statistics(column, numbers) for numbers in cases.values()]
            excluded = sum(score["excluded"] for score in scores)
            overall[column] = {**_statistics(column, (score["mean"] for score in scores)), "excluded": excluded}
        return {**result, "overall": overall}

    def save_csv(self, path: str | os.PathLike) -> None:
        """Write the rows as CSV, atomically; NaN and missing numbers are empty fields."""
        text = io.StringIO()
        writer = csv.DictWriter(text, ["case", "label", "name", *self.columns], lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: "" if _is_nan(value) else value for key, value in row.items()} for row in self.rows)
        write_atomic(path, text.getvalue())

    def save_json(self, path: str | os.PathLike) -> None:
        """Write rows, summary, skipped cases, rule for empty labels and implementation, atomically; NaN is null.

        And `untold`, where there are some.
        """
        content = {
            "implementation": f"monai {monai.__version__}",
            "unit": "Dice in [0, 1], distances in mm on the native grid",
            "rule": EMPTY_RULE,
            "under": f"share of the cases whose Dice is under {POOR:g}",
            "labels": {str(value): name for value, name in self.label_names.items()},
            "summary": self.summary(),
            "skipped": self.skipped,
            **({"untold": self.untold} if self.untold else {}),
            "rows": self.rows,
        }
        write_atomic(path, json.dumps(_nan_to_none(content), indent=1, allow_nan=False) + "\n")

    def print(self, console: Console | None = None) -> None:
        """Print the summary as a small table: mean, and for Dice also sd, the worst case and the share under `POOR`."""
        others = [column for column in self.columns if column != "dice"]
        titles = {"hd95": "HD95 mm", "assd": "ASSD mm"}
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))  # narrow: a row should fit on 80 columns
        summary = self.summary()
        table.add_column("label", min_width=len("overall"), overflow="fold")
        left = any(scores["dice"]["excluded"] for scores in summary.values())
        dice = ["Dice", "sd", "min", under_title().replace(" ", "\n")]
        shown = [*dice, *(titles.get(name, name.replace("_", " ")) for name in others), *["excluded"] * left]
        for title in shown:
            table.add_column(title, justify="right")
        for name, scores in summary.items():
            cells = [_text(scores["dice"][key], 3) for key in ("mean", "sd", "min")]
            cells.append(percent(scores["dice"]["under"]))
            cells += [_text(scores[column]["mean"], 3 if _is_dice(column) else 2) for column in others]
            table.add_row(
                Text(printable(name)),
                *cells,
                *[str(scores["dice"]["excluded"])] * left,
                style="bold" if name == "overall" else None,
            )
        console = console or Console()
        console.print(table)
        if self.skipped:
            first = printable(self.skipped[0])
            console.print(f"not scored, for want of a label: {len(self.skipped)} (the first: {first})", markup=False)
        if self.untold:
            count = sum(map(len, self.untold.values()))
            text = f"not scored, since masks don't tell about them: {count} structures of {len(self.untold)} cases"
            console.print(text, markup=False)


def _statistics(column: str, numbers: Iterable[float]) -> dict[str, float]:
    every = np.array(list(numbers), dtype=float)
    kept = every[~np.isnan(every)]
    values = {"mean": math.nan, "sd": math.nan, "min": math.nan, "max": math.nan}
    if kept.size:
        values.update(mean=float(kept.mean()), min=float(kept.min()), max=float(kept.max()))
    if kept.size > 1:
        values["sd"] = float(kept.std(ddof=1))
    if _is_dice(column):
        values["under"] = share_under(kept)
    return {**values, "count": int(kept.size), "excluded": int(every.size - kept.size)}


def _is_dice(column: str) -> bool:
    return "dice" in column


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _nan_to_none(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _nan_to_none(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_nan_to_none(item) for item in value]
    return None if _is_nan(value) else value


def _text(number: float, digits: int) -> str:
    return "-" if math.isnan(number) else f"{number:.{digits}f}"
