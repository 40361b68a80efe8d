"""Say which Dice more labels let expect, from finished runs that differ in how many volumes were labelled.

    python -m tools.learning_curve RUN [RUN ...]           output folders, each with run.json and metrics.json
    python -m tools.learning_curve RUN RUN RUN --labels 16,32 --per_label --json curve.json

The runs are of one bundle, on one data set, scored on the same cases; the more draws of a number, the surer. The curve
is 1 - Dice = floor + fall n^-rate. Up to three different numbers of labels can't tell the rate: it is taken as 1/2, and
the interval goes over .25 to 1. It holds 90 % of further runs like these, on other such scans.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from common.errors import InputError, plain_input_errors, printable
from common.files.atomic_write import write_atomic
from common.launch.words import items, number, place
from common.scoring.metrics import POOR, percent, under_title

from .learning.curve import RANGE
from .learning.outlook import COST, common_notes, learning_curve
from .learning.runs import OVERALL, read_runs

FARTHEST = 4  # times the most labels: beyond it a curve through so few points is a guess


def asked_labels(word: str | None, most: int) -> list[int]:
    """Return the numbers of labels to look ahead to, ascending; by itself twice and four times the most labels.

    Raises:
        InputError: one is no whole number above `most`, up to four times that.
    """
    if word is None:
        return [2 * most, FARTHEST * most]
    found = sorted({number("labels", part, whole=True) for part in items(word)})
    if not found or not most < found[0] <= found[-1] <= FARTHEST * most:
        raise InputError(
            f"labels is {word!r}; wanted whole numbers above {most}, the most that a run had, up to {FARTHEST * most}: "
            f"beyond {FARTHEST} times that these runs say nothing"
        )
    return found


def print_curve(curve: Mapping[str, Any], limit: float) -> None:
    """Print a structure's table, the check and the notes."""
    table = Table(
        title=Text(printable(curve["structure"])), box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left"
    )
    for title in (
        "labels",
        "runs",
        "Dice",
        under_title(limit),
        "curve",
        f"{percent(RANGE[1] - RANGE[0])} of runs in",
        "annotation",
    ):
        table.add_column(title, justify="right")
    for row in curve["measured"]:
        cells = [f"{row['dice']:.3f}", percent(row["under"]), f"{row['curve']:.3f}", ""]
        table.add_row(str(row["labels"]), str(row["runs"]), *cells, hours(row["minutes"]))
    most = curve["measured"][-1]["minutes"] if curve["measured"] else 0
    for row in curve["expected"]:
        cells = ["", "", f"{row['dice']:.3f}", f"{row['low']:.3f} to {row['high']:.3f}"]
        time = f"{hours(row['minutes'])} (+{hours(row['minutes'] - most)})"
        table.add_row(str(row["labels"]), "", *cells, time, style="bold")
    if curve["measured"]:
        Console().print(table)
    check = curve["check"]
    if check is not None:
        dice = f"{check['measured']:.3f}"
        if check["predicted"] is None:
            said = f"no prediction from fewer, which don't rise; measured {dice}"
        else:
            said = (
                f"predicted from fewer {check['predicted']:.3f} ({check['low']:.3f} to {check['high']:.3f}), "
                f"measured {dice}"
            )
        print(f"check: {check['labels']} labels: {said}")
    for line in curve["notes"]:
        print(f"note: {printable(line)}")


def hours(minutes: float) -> str:
    """Return a time of annotation as "1.5 h"."""
    return f"{minutes / 60:.1f} h"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.learning_curve",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", type=place, nargs="+", metavar="RUN", help="output folder of a finished training")
    parser.add_argument("--labels", metavar="N,N", help="to look ahead to, default twice and four times the most")
    parser.add_argument("--limit", default=POOR, help=f"Dice under which a case is counted, default {POOR:g}")
    parser.add_argument(f"--{COST}", default=30, help="minutes to label one, default 30, an assumption")
    parser.add_argument("--per_label", action="store_true", help="each structure by itself, too")
    parser.add_argument("--grown", action="store_true", help="labels were added to the data set between the runs")
    parser.add_argument("--json", type=place, metavar="FILE", help="write it there, too")
    given = parser.parse_args(arguments)
    limit, minutes = number("limit", given.limit, least=0), number(COST, given.minutes_per_volume, least=0)
    if not 0 < limit <= 1:
        raise InputError(f"limit is {given.limit!r}; wanted a Dice above 0, up to 1")
    runs = read_runs(given.runs, given.grown)
    more = asked_labels(given.labels, max(run.labels for run in runs))
    structures = [OVERALL]
    if given.per_label:
        structures += [name for name in runs[0].dice if name != OVERALL]
    curves = [learning_curve(runs, structure, more, limit, minutes) for structure in structures]
    bundle = next((run.bundle for run in runs if run.bundle), "an unnamed bundle")
    print(f"{printable(bundle)}: {len(runs)} runs, each scored on the same {len(runs[0].cases)} cases")
    for curve in curves:
        print_curve(curve, limit)
    said = common_notes(runs, more, minutes)
    for line in said:
        print(printable(line))
    if given.json:
        content = {
            "bundle": bundle, "dataset": runs[0].dataset, "cases": len(runs[0].cases), "limit": limit,
            COST: minutes, "interval": list(RANGE), "notes": said, "curves": curves,
            "runs": [{"name": run.name, "labels": run.labels, "seed": run.seed, "id": run.id} for run in runs],
        }  # fmt: skip
        write_atomic(given.json, json.dumps(_plain(content), indent=1, allow_nan=False) + "\n")
    return 0


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value


if __name__ == "__main__":
    plain_input_errors()
    sys.exit(main())
