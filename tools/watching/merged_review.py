"""review.csv of all series, made of each one's own."""

from __future__ import annotations

import csv
import io
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from common.files.atomic_write import write_atomic
from common.report.review_sheet import COLUMNS

from .series import KEY

FILE = "review.csv"
SHARE = 20  # times as long as it took last, before it is written again

Row = Mapping[str, str]


class MergedReview:
    """Write FOLDER/review.csv of FOLDER/<key>/review.csv, worst scan first.

    Several processes may do so at once, on several machines: whoever has written looks again, so that the last to write
    has seen all results that were there.

    Args:
        folder: of results.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._rows: dict[str, tuple[tuple[int, int], list[Row]]] = {}
        self._written: dict[str, tuple[int, int]] | None = None
        self._next = 0.0

    def update(self, now: bool = True) -> None:
        """Write the table where there is something new.

        Args:
            now: at any cost; else only where that was not long ago, seen by how long it takes.
        """
        if not now and time.monotonic() < self._next:
            return
        start = time.monotonic()
        while (found := self._look()) != self._written:
            for key in self._rows.keys() - found.keys():
                del self._rows[key]
            for key, version in found.items():
                if key not in self._rows or self._rows[key][0] != version:
                    self._rows[key] = (version, read_rows(self.folder / key / FILE))
            write_atomic(self.folder / FILE, as_table([rows for _, rows in self._rows.values()]))
            self._written = found
        end = time.monotonic()
        self._next = end + SHARE * (end - start)

    def _look(self) -> dict[str, tuple[int, int]]:
        """Return what is there, key -> what tells a folder from the one that takes its place."""
        found = {}
        for entry in os.scandir(self.folder):
            if KEY.fullmatch(entry.name):
                try:
                    stat = os.stat(Path(entry.path) / FILE)
                except OSError:  # nothing judged it, or it is being replaced
                    continue
                found[entry.name] = (stat.st_ino, stat.st_mtime_ns)
        return dict(sorted(found.items()))


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a table; none where it has just gone."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except OSError:
        return []


def as_table(scans: Iterable[Sequence[Row]], columns: Sequence[str] = COLUMNS) -> str:
    """Return the rows of several scans as CSV, in the order in which to look at them."""
    scans = sorted((sorted(rows, key=urgency) for rows in scans if rows), key=lambda rows: urgency(rows[0]))
    names = dict.fromkeys([*columns, *(name for rows in scans for row in rows for name in row)])
    text = io.StringIO()
    writer = csv.DictWriter(text, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row for rows in scans for row in rows)
    return text.getvalue()


def urgency(row: Row) -> tuple[bool, float]:
    """Return what rows are sorted by: those to look at first, then what has no predicted Dice, then the lowest."""
    try:
        return row.get("look") != "yes", float(row.get("predicted_dice") or -1)
    except ValueError:
        return row.get("look") != "yes", -1.0
