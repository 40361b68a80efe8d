"""Turn the results of a benchmark into Markdown tables with paired tests.

    python -m benchmarks.tables few_label results.json
    python -m benchmarks.tables few_slices results.json [--against "2D UNet"]
    python -m benchmarks.tables one_shot results.json [--metric dice] [--atlas CASE ...]
    python -m benchmarks.tables related results.json
    python -m benchmarks.tables weak results.json

Several files of results may be given; each gets tables of its own.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from scipy.stats import wilcoxon

from common.errors import InputError

WITHIN = "2D UNet within"  # the way of few_slices that is the second teacher itself
REFERENCE = "propagation: instance"  # the row of one_shot that the others are tested against


def wilcoxon_paired(a: Sequence[float], b: Sequence[float]) -> dict[str, float]:
    """Compare paired scores with Wilcoxon's signed-rank test (scipy, two-sided); pairs with a NaN are left out.

    Returns:
        mean_difference (of a - b), wins (pairs with a > b), n (pairs compared), p (1 where no pair differs).

    Raises:
        InputError: a and b differ in length.
    """
    if len(a) != len(b):
        raise InputError(f"wilcoxon_paired: found {len(a)} and {len(b)} scores, wanted pairs")
    difference = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    difference = difference[~np.isnan(difference)]
    p = float(wilcoxon(difference).pvalue) if np.any(difference) else 1.0
    mean = float(difference.mean()) if difference.size else math.nan
    return {"mean_difference": mean, "wins": int((difference > 0).sum()), "n": int(difference.size), "p": p}


def paired(first: Sequence[float], second: Sequence[float]) -> str:
    """Return difference, wins and p (Wilcoxon signed rank) of first against second, case by case."""
    found = wilcoxon_paired(first, second)
    return f"{found['mean_difference']:+.3f}, {found['wins']}/{found['n']}, p={found['p']:.2g}"


@dataclass
class Row:
    """A row of a table.

    Args:
        scores: of each case, by draw or atlas.
        seconds: of CPU, of each draw or atlas; empty: not known.
        control: the row that this one is tested against, over the draws or atlases that both have.
    """

    scores: dict[Any, Sequence[Mapping[str, Any]]]
    seconds: list[float] = field(default_factory=list)
    control: Row | None = None

    def column(self, key: str, parts: Iterable[Hashable] | None = None) -> list[Any]:
        """Return one score of all cases, or of those of some draws or atlases."""
        return [case[key] for part in (self.scores if parts is None else parts) for case in self.scores[part]]


Cell = Callable[[Row], str]


def markdown(first: str, columns: Mapping[str, Cell], rows: Mapping[str, Row]) -> list[str]:
    """Return the lines of a table: the rows' names below `first`, then `columns` (what stands above a cell -> cell)."""
    head = ["| " + " | ".join([first, *columns]) + " |"]
    head.append("|---" * head[0].count(" | ") + "|---|")
    return head + [
        "| " + " | ".join([name, *(cell(row) for cell in columns.values())]) + " |" for name, row in rows.items()
    ]


def mean(key: str, digits: int) -> Cell:
    return lambda row: f"{fmean(row.column(key)):.{digits}f}"


def least(key: str) -> Cell:
    return lambda row: f"{min(row.column(key)):.3f}"


def known(key: str, digits: int, least: bool = False) -> Cell:
    """Return the cell of a mean, and where wanted the least, over cases that have the score: it may be None or NaN."""

    def cell(row: Row) -> str:
        found = [value for value in row.column(key) if value is not None and not math.isnan(value)]
        if not found:
            return ""
        return f"{sum(found) / len(found):.{digits}f}" + (f" ({min(found):.2f})" if least else "")

    return cell


def by_part(row: Row) -> str:
    return " / ".join(f"{fmean(row.column('dice', [part])):.3f}" for part in row.scores)


def seconds(row: Row) -> str:
    return f"{fmean(row.seconds):.0f}" if row.seconds else ""


def against_control(key: str) -> Cell:
    def cell(row: Row) -> str:
        control = row.control
        shared = [part for part in row.scores if part in control.scores] if control else []
        return paired(row.column(key, shared), control.column(key, shared)) if control and shared else ""

    return cell


DICE = {"Dice": mean("dice", 3), "min": least("dice"), "HD95 mm": mean("hd95", 1)}
FEW_LABEL = {
    "Dice by draw": by_part,
    **DICE,
    "cleaned": mean("cleaned dice", 3),
    "cleaned HD95": mean("cleaned hd95", 1),
    "CPU-s": seconds,
    "against the same without": against_control("dice"),
}
FEW_SLICES = {"Dice by draw": by_part, **DICE, "training CPU-s": seconds}
ONE_SHOT = {
    "Dice by atlas": by_part,
    "Dice": mean("dice", 4),
    "+ intensity": mean("dice+intensity", 4),
    "min": least("dice"),
    "HD95 mm": mean("hd95", 2),
    "ASSD mm": mean("assd", 2),
    "CPU-s": seconds,
}
# score of a case -> what stands above its column
SEGMENTER = {
    "dice": "Dice",
    "hd95": "HD95 mm",
    "prior dice": "prior + bits",
    "centre dice": "centre + bits",
    "auc": "presence AUC",
    "index auc": "slice index AUC",
    "slice dice": "per-slice Dice, as published",
}
# what costs a way of few_slices its training
SEGMENTER_STAGES, ADAPTED_STAGES, WITHIN_STAGES = (
    ("classify", "adapt", "slice UNet", "train"),
    ("classify", "adapt"),
    ("slice UNet",),
)

Run = Mapping[str, Any]  # an entry of "rows" in the results
Part = tuple[str, Sequence[Mapping[str, Any]], float]  # a run's share in a row: its name, scores of the cases, seconds


def by_draw(
    runs: Iterable[Run], group: str, parts: Callable[[Run], Iterable[Part]]
) -> list[tuple[Any, dict[str, Row]]]:
    """Return (value of `group`, its rows by name) for each table, rising; None, for all there is, comes last."""
    tables: dict[Any, dict[str, Row]] = defaultdict(dict)
    for run in sorted(runs, key=lambda run: run["draw"]):
        for name, cases, spent in parts(run):
            row = tables[run[group]].setdefault(name, Row({}, []))
            row.scores[run["draw"]] = cases
            row.seconds.append(spent)
    return sorted(tables.items(), key=lambda table: math.inf if table[0] is None else table[0])


def few_label(results: Mapping[str, Any], options: argparse.Namespace) -> list[str]:
    """A table for each number of labels; a row with generalists is tested against the same without."""
    lines = []
    for labels, rows in by_draw(
        results["rows"], "labels", lambda run: [(run["row"], run["cases"], run["cost"]["train"])]
    ):
        for name, row in rows.items():
            method, plus, _ = name.partition(" + ")
            row.control = rows.get(method) if plus else None
        lines += ["", f"**{'all' if labels is None else labels} labels**", "", *markdown("row", FEW_LABEL, rows)]
        lines += [line for name, row in rows.items() for line in generalists(name, row)]
    return lines


def generalists(name: str, row: Row) -> list[str]:
    """Return what the generalists' own Dice is, where they were asked about test cases."""
    cases = [case for part in row.scores.values() for case in part]
    lines = []
    for title in dict.fromkeys(key for case in cases for key in case):
        if title.endswith(" dice") and title != "cleaned dice":
            asked = [case for case in cases if title in case]
            own, theirs = (fmean(case[key] for case in asked) for key in ("dice", title))
            lines += ["", f"{name}: {title} {theirs:.3f} on {len(asked)} cases, the specialist {own:.3f} there"]
    return lines


def few_slices(results: Mapping[str, Any], options: argparse.Namespace) -> list[str]:
    """A table for each number of slices; a row for each way in which a run segments."""
    lines = []
    for slices, rows in by_draw(results["rows"], "slices", ways):
        control = rows.get(options.against)
        for row in rows.values():
            row.control = control if row is not control else None
        columns = {**FEW_SLICES, f"against {options.against}": against_control("dice")}
        lines += ["", f"**{slices} slices with masks**", "", *markdown("row", columns, rows)]
    return lines


def related(results: Mapping[str, Any], options: argparse.Namespace) -> list[str]:
    """A table for each number of labels; a row is tested against the same without its part."""
    lines = []
    against = {run["row"]: run["against"] for run in results["rows"]}
    trained = {run["row"]: run.get("trained") for run in results["rows"]}
    for labels, rows in by_draw(
        results["rows"], "labels", lambda run: [(run["row"], run["cases"], run["cost"]["train"])]
    ):
        titled = {}
        for name, row in rows.items():
            row.control = rows.get(against[name])
            count = f", {trained[name] / 1e6:.2f} M" if trained[name] else ""
            titled[f"{name}{count}" + (f" (against {against[name]})" if row.control else "")] = row
        columns = {**FEW_SLICES, "against": against_control("dice")}
        lines += ["", f"**{'all' if labels is None else labels} labels**", "", *markdown("row", columns, titled)]
    return [*lines, ""]


def ways(run: Run) -> Iterable[Part]:
    for key in run["cases"][0]:
        if key.endswith("dice"):
            way = key.removesuffix("dice").strip()
            distance = key.removesuffix("dice") + "hd95"
            stages: tuple[str, ...] = SEGMENTER_STAGES
            if "adapt" in run["cost"] and way != "segmenter":
                stages = WITHIN_STAGES if way == WITHIN else ADAPTED_STAGES
            cases = [{"dice": case[key], "hd95": case[distance]} for case in run["cases"]]
            spent = sum(run["cost"].get(stage, 0) for stage in stages)
            yield f"{run['row']}: {way}" if way else run["row"], cases, spent


def one_shot(results: Mapping[str, Any], options: argparse.Namespace) -> list[str]:
    """One table of the rows that all atlases have, then what else they say."""
    atlases = {name: atlas for name, atlas in results["atlases"].items() if name in (options.atlas or [name])}
    rows = {}
    for name in dict.fromkeys(name for atlas in atlases.values() for name in atlas["rows"]):
        if all(name in atlas["rows"] for atlas in atlases.values()):
            spent = [atlas["costs"][name] for atlas in atlases.values() if atlas["costs"].get(name) is not None]
            scores = {case: atlas["rows"][name] for case, atlas in atlases.items()}
            rows[name] = Row(scores, spent if any(spent) else [])
    for name, row in rows.items():
        row.control = rows[REFERENCE] if name != REFERENCE else None
    columns = {**ONE_SHOT, "against instance optimisation": against_control(options.metric)}
    lines = [*markdown("row", columns, rows), ""]
    propagated = {name: row for name, row in rows.items() if name.startswith("propagation")}
    if "full" in rows:
        full = rows["full"].column("dice")
        for name, row in rows.items():
            if name != "full" and name not in propagated:
                lines.append(f"- {name} against full: {paired(row.column('dice'), full)}")
        for key in ("dice+tta", "dice+tta+intensity", "dice of guided propagation"):
            if key in next(iter(rows["full"].scores.values()))[0]:
                found = rows["full"].column(key)
                lines.append(f"- full, {key}: {fmean(found):.4f}; against raw {paired(found, full)}")
    lines += [f"- {name}: folding {fmean(row.column('folding')):.4f} %" for name, row in propagated.items()]
    for name, atlas in atlases.items():
        costs = ", ".join(f"{what} {spent}" for what, spent in atlas["costs"].items())
        lines.append(f"- costs in CPU seconds, atlas {name}: {costs}")
    return lines


def weak(results: Mapping[str, Any], options: argparse.Namespace) -> list[str]:
    """Two tables: pseudo labels of the training cases, then segmenters on the test cases, a line for each label."""
    columns: dict[str, Cell] = {}
    pseudo_labels, segmenters = {}, {}
    for run in results["rows"]:
        if "cases" in run:
            cases = [flat(case) for case in run["cases"]]
            for label in [] if columns else [label for label in run["cases"][0] if label != "case"]:
                columns |= {
                    f"Dice {label}": known(f"{label} dice", 3, least=True),
                    f"HD95 {label}, mm": known(f"{label} hd95", 1),
                }
            spent = sum(value for stage, value in run["cost"].items() if stage != "segment")
            pseudo_labels[run["row"]] = Row({None: cases}, [spent])
        for scored in run.get("test", []):
            row = segmenters.setdefault(f"{run['row']} | {scored['name']}", Row({None: []}))
            row.scores[None].append({key: scored.get(key) for key in SEGMENTER})
    scores = {head: known(key, 1 if head.endswith("mm") else 3, least=key == "dice") for key, head in SEGMENTER.items()}
    first = markdown("pseudo labels", {**columns, "CPU-s": seconds}, pseudo_labels)
    return [results["share"], "", *first, "", *markdown("segmenter | label", scores, segmenters), ""]


def flat(case: Mapping[str, Any]) -> dict[str, float]:
    """Return the scores of all labels of a case, under a label's name and the score's."""
    return {
        f"{label} {key}": value for label, scores in case.items() if label != "case" for key, value in scores.items()
    }


KINDS = {"few_label": few_label, "few_slices": few_slices, "one_shot": one_shot, "related": related, "weak": weak}


def tables(kind: str, path: str, options: argparse.Namespace) -> list[str]:
    """Return the lines of all tables of a file of results.

    Raises:
        InputError: the file can't be read, or holds no results of that benchmark.
    """
    try:
        return KINDS[kind](json.loads(Path(path).read_text(encoding="utf-8")), options)
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: can't be read ({error}); wanted results of benchmarks.{kind}") from error
    except KeyError as error:
        raise InputError(f"{path}: found no {error}, wanted results of benchmarks.{kind}") from error


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    of = {kind: kinds.add_parser(kind, help=f"results of benchmarks.{kind}") for kind in KINDS}
    for one in of.values():
        one.add_argument("results", nargs="+")
    of["few_slices"].add_argument(
        "--against", default="2D UNet", help="row, or row and way parted by ': ', to test against"
    )
    of["one_shot"].add_argument(
        "--metric", default="dice+intensity", help="column that is compared; +intensity: refined alike"
    )
    of["one_shot"].add_argument("--atlas", action="append", help="only this one; may be given several times")
    options = parser.parse_args(arguments)
    try:
        for path in options.results:
            print("\n".join(tables(options.kind, path, options)))
    except InputError as error:
        print(*(f"error: {line}" for line in error.problems), sep="\n", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
