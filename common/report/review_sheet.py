"""What to look at first among the scans of a prediction: review.csv and review.html, worst first."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from monai.data.utils import affine_to_spacing

from ..errors import printable
from ..files.atomic_write import write_atomic
from ..launch.words import path
from ..review.add_review import FOUND, KEY
from ..serving.dicom_segmentation import label_names
from ..tensors import plain
from .overlay import overlay_png
from .page import CASES, LIMITS, SUMMARY, Report

COLUMNS: tuple[str, ...] = (
    "case",
    "label",
    "name",
    "predicted_dice",
    "low",
    "high",
    "volume_ml",
    "look",
    "why",
    "own",
    "view",
    "spread",
)
PICTURES = 6
LIMIT = (
    "A predicted Dice is what the model's own probabilities and a second look at the scan make likely; the interval is "
    "where nine of ten should lie. A mistake that the model is sure of is not seen by it."
)


class ReviewPage(Report):
    """A report by the name of review.html."""

    FILE = "review.html"


class ReviewSheet:
    """Ignite handler that writes review.csv after each scan and review.html at the end, worst first.

    A scan's place is that of its worst label; those that should be looked at come before all others. The pictures are
    of the first `PICTURES` scans, on the network's voxels: a whole scan in memory once more would be the most of all.

    Args:
        output_dir: of the predictions.
        label_values: of the network's classes, background first.
        metadata: content of metadata.json, for the names of the labels.
    """

    def __init__(self, output_dir: str, label_values: Sequence[int], metadata: Mapping[str, Any]) -> None:
        self.output_dir = Path(path(output_dir))
        self.values = [int(value) for value in label_values]
        self.names = dict(zip(self.values[1:], label_names(label_values, metadata), strict=True))
        self.title = f"Review of {metadata.get('name', 'a model')}"
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self.pictures: dict[str, bytes] = {}

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.note)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def start(self, engine: Engine) -> None:
        self.rows, self.pictures = {}, {}

    def note(self, engine: Engine) -> None:
        """Keep the rows of the scans that are done, and write the table."""
        for item in engine.state.output:
            if KEY not in item or "saved_to" not in item["pred"].meta:
                continue
            case = Path(item["pred"].meta["saved_to"]).parent.name
            self.rows[case] = [{"case": case, "name": self.names[row["label"]], **row} for row in item[KEY]]
            shown = self.worst_first()[:PICTURES]
            self.pictures = {one: png for one, png in self.pictures.items() if one in shown}
            if case in shown:
                self.pictures[case] = self.picture(item)
        if self.rows:
            write_atomic(self.output_dir / "review.csv", self.table())

    def worst_first(self) -> list[str]:
        """Return the scans in the order in which to look at them."""
        return sorted(self.rows, key=lambda case: min(map(urgency, self.rows[case])))

    def table(self) -> str:
        """Return all rows as CSV."""
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for case in self.worst_first():
            for row in sorted(self.rows[case], key=urgency):
                writer.writerow({**rounded(row), "look": "yes" if row["look"] else "no", "why": "; ".join(row["why"])})
        return text.getvalue()

    def finish(self, engine: Engine) -> None:
        """Write the page."""
        if not self.rows:
            return
        page, cases = ReviewPage(self.title, self.output_dir), self.worst_first()
        wrong = [case for case in cases if any(row["look"] for row in self.rows[case])]
        page.add_text(f"{len(wrong)} of {len(cases)} scans should be looked at first.", SUMMARY)
        page.add_table("Scans, worst first", [self.summary(case) for case in cases], section=SUMMARY)
        for case in cases[:PICTURES]:
            page.add_overlay(
                f"{case}: {self.summary(case)['why'] or 'nothing odd'}", self.pictures[case], section=CASES
            )
        shown = [
            {**rounded(row), "look": "yes" if row["look"] else "", "why": "; ".join(row["why"])}
            for case in cases
            for row in sorted(self.rows[case], key=urgency)
        ]
        page.add_table("Each label", [{name: row[name] for name in COLUMNS} for row in shown], section=CASES)
        page.add_text([LIMIT], LIMITS)
        print(f"review: {printable(page.write())} ({len(wrong)} of {len(cases)} scans to look at)", flush=True)

    def summary(self, case: str) -> dict[str, Any]:
        """Return a scan's line: its mean and its worst label, and why to look at it."""
        worst = min(self.rows[case], key=urgency)
        return {
            "scan": case,
            "predicted Dice": float(np.mean([row["predicted_dice"] for row in self.rows[case]])),
            "worst label": worst["name"],
            "its Dice": worst["predicted_dice"],
            "likely": f"{worst['low']:.2f} to {worst['high']:.2f}",
            "why": "; ".join(dict.fromkeys(reason for row in self.rows[case] for reason in row["why"])),
        }

    def picture(self, item: Mapping[str, Any]) -> bytes:
        """Return what was found over the image, both as the network saw them, where most was found."""
        image = item["image"]
        classes = np.asarray(self.values)[item[FOUND].long().numpy()]
        spacing = affine_to_spacing(image.affine, r=3)
        return overlay_png(plain(image)[0].float().cpu().numpy(), {"prediction": classes}, self.names, spacing)


def urgency(row: Mapping[str, Any]) -> tuple[bool, float]:
    """Return what rows are sorted by."""
    return not row["look"], row["predicted_dice"]


def rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row whose numbers a person can read."""
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()}
