"""What review.csv of a folder of predictions says of each scan."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..errors import InputError, printable

FILE = "review.csv"
WANTED = ("case", "predicted_dice", "volume_ml")


def read_review(folder: str | Path) -> dict[str, list[dict[str, str]]]:
    """Return the rows of each scan, case id -> column -> text; `predicted_dice` and `volume_ml` are numbers.

    Args:
        folder: of the predictions.

    Raises:
        InputError: there is no review.csv, or it isn't what `ReviewSheet` wrote.
    """
    path = Path(folder).expanduser() / FILE
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{path}: no such file; wanted a folder that inference.json wrote, with review") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: {error}; wanted what inference.json wrote") from error
    problems = list(_problems(rows))
    if not rows or problems:
        raise InputError(f"{path}: {problems[0] if rows else 'no row'}; wanted what inference.json wrote")
    found: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        found.setdefault(row["case"], []).append(row)
    return found


def _problems(rows: list[dict[str, str]]) -> Iterator[str]:
    for number, row in enumerate(rows, start=2):
        missing = [name for name in WANTED if row.get(name) is None]
        if missing:
            yield f"line {number} has no {', '.join(missing)}"
        elif not (_within(row, "predicted_dice", 1.0) and _within(row, "volume_ml", float("inf"))):
            yield f"line {number} has {printable(row['predicted_dice'])} and {printable(row['volume_ml'])} ml"


def _within(row: Mapping[str, str], name: str, most: float) -> bool:
    try:
        return 0 <= float(row[name]) <= most
    except ValueError:
        return False
