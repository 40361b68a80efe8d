"""What to look at first among the scans of a prediction: review.csv and review.html, worst first."""

from __future__ import annotations

import csv
import importlib.util
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from monai.data.utils import affine_to_spacing

from ..control.good_enough import short
from ..errors import printable
from ..files.atomic_write import write_atomic
from ..launch.words import path
from ..review.add_review import FOUND, KEY, OUTSIDE, UNLIKE, UNLIKE_IMAGE
from ..scoring.metrics import POOR, percent
from ..serving.dicom_segmentation import label_names
from ..tensors import plain
from .gallery import slice_name
from .overlay import overlay_png
from .page import CASES, EXPECTED, LIMITS, NUMBERS, SUMMARY, Report
from .pictures import Card
from .plots import draw_strips
from .tables import format_value, mean, plain_text

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
LOOK_RULE = (
    f"A scan is to be looked at first where a structure's predicted Dice is under {POOR:.2f}; where nothing of it was "
    f"found; where its volume or shape is more than {UNLIKE:g} spans from what is usual in the training, or the image "
    f"itself more than {UNLIKE_IMAGE:g}; where it looks mirrored; where more than {percent(OUTSIDE)} of the scan was "
    "not seen. A span is how far the training scans usually are from their middle."
)
COLUMN_NOTE = (
    "Sure of itself: the Dice that the probabilities of the model themselves expect. Second look: the Dice with its "
    "answer for the same scan, turned and scaled a little. Spread: 1 for a ball, more the further apart its parts are."
)


class ReviewPage(Report):
    """A report by the name of review.html."""

    FILE = "review.html"


class ReviewSheet:
    """Ignite handler that writes review.csv after each scan and review.html at the end, worst first.

    A scan's place is that of its worst label; those that should be looked at come before all others. The pictures are
    of the first `PICTURES` scans, on the network's voxels: a whole scan in memory once more would be the most of all.
    Without matplotlib, which who only predicts may lack, there is the table alone.

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
        self.drawn = importlib.util.find_spec("matplotlib") is not None

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
            if case in shown and self.drawn:
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
        if not self.drawn:
            print("review: review.csv alone: matplotlib isn't installed, which review.html is drawn with", flush=True)
            return
        page, cases = ReviewPage(self.title, self.output_dir), self.worst_first()
        wrong = [case for case in cases if self.to_look_at(case)]
        page.add_verdict(self.lead(len(wrong), len(cases)), [])
        page.add_text(LOOK_RULE, SUMMARY, fold="The rule behind this")
        page.add_cards([self.card(case) for case in cases], CASES)
        draw, size = draw_strips(self.strips(), "predicted Dice", POOR)
        alt = "; ".join(f"{name} {format_value(mean(of['predicted']))}" for name, of in self.strips().items())
        title = "Predicted Dice of each scan, a dot each; a bar is the mean"
        page.add_plot(title, draw, f"Means: {alt}. The dashed line is at {POOR:.2f}.", EXPECTED, size)
        page.add_table("Scans, worst first", [self.summary(case) for case in cases], section=NUMBERS, fold=True)
        rows = [self.line(row) for case in cases for row in sorted(self.rows[case], key=urgency)]
        page.add_table("Each structure of each scan", rows, COLUMN_NOTE, NUMBERS, fold=True)
        page.add_text([LIMIT], LIMITS)
        print(f"review: {printable(page.write())} ({len(wrong)} of {len(cases)} scans to look at)", flush=True)

    def lead(self, wrong: int, count: int) -> str:
        """Return what the page says first."""
        predicted = mean([row["predicted_dice"] for rows in self.rows.values() for row in rows])
        scans = f"{count} scan{'s' if count != 1 else ''}"
        first = f"{wrong} of {scans} should be looked at first." if wrong else f"None of {scans} stands out."
        return f"{first} Mean predicted Dice {short(predicted)}; no mask of a person was compared with."

    def to_look_at(self, case: str) -> bool:
        """Say whether something is odd about a scan."""
        return any(row["look"] for row in self.rows[case])

    def card(self, case: str) -> Card:
        """Return a scan's picture, where there is one, and why to look at it."""
        found, look = self.summary(case), self.to_look_at(case)
        line = found["why"] or f"nothing odd; lowest is {found['lowest structure']}, {found['its Dice']:.2f} expected"
        badge = f"{'look, ' if look else ''}Dice {short(found['predicted Dice'])} expected"
        return Card(
            case, line, self.pictures.get(case), f"{case} in three planes with the prediction: {line}", badge, look
        )

    def strips(self) -> dict[str, dict[str, list[float]]]:
        """Return the predicted Dice of each label's scans by its name, for a plot."""
        found: dict[str, dict[str, list[float]]] = {plain_text(name): {"predicted": []} for name in self.names.values()}
        for rows in self.rows.values():
            for row in rows:
                found[plain_text(row["name"])]["predicted"].append(row["predicted_dice"])
        return found

    def summary(self, case: str) -> dict[str, Any]:
        """Return a scan's line: its mean and its worst label, and why to look at it."""
        worst = min(self.rows[case], key=urgency)
        return {
            "scan": case,
            "predicted Dice": mean([row["predicted_dice"] for row in self.rows[case]]),
            "lowest structure": worst["name"],
            "its Dice": worst["predicted_dice"],
            "likely": f"{worst['low']:.2f} to {worst['high']:.2f}",
            "why": self.reasons(reason for row in self.rows[case] for reason in row["why"]),
        }

    def line(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return a label's row of a scan under words a reader knows."""
        return {
            "scan": row["case"],
            "structure": row["name"],
            "predicted Dice": row["predicted_dice"],
            "likely": f"{row['low']:.2f} to {row['high']:.2f}",
            "volume (ml)": row["volume_ml"],
            "look": "yes" if row["look"] else "",
            "why": self.reasons(row["why"]),
            "sure of itself": row["own"],
            "second look": row["view"],
            "spread": row["spread"],
        }

    def reasons(self, why: Iterable[str]) -> str:
        """Return reasons as a line, with the names of the labels for their values."""
        said = (re.sub(r"\blabel (\d+)", lambda m: self.names.get(int(m[1]), m[0]), one) for one in why)
        return "; ".join(dict.fromkeys(said))

    def picture(self, item: Mapping[str, Any]) -> bytes:
        """Return what was found over the image, both as the network saw them, where most was found."""
        image = item["image"]
        classes = np.asarray(self.values)[item[FOUND].long().numpy()]
        spacing, name = affine_to_spacing(image.affine, r=3), None
        if "original_affine" in image.meta and "spatial_shape" in image.meta:
            file = np.asarray(image.meta["original_affine"]), [int(n) for n in image.meta["spatial_shape"]][:3]
            name = slice_name(image.affine, image.shape[1:], *file)
        grey = plain(image)[0].float().cpu().numpy()
        return overlay_png(grey, {"prediction": classes}, self.names, spacing, slice_name=name)


def urgency(row: Mapping[str, Any]) -> tuple[bool, float]:
    """Return what rows are sorted by."""
    return not row["look"], row["predicted_dice"]


def rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row whose numbers a person can read."""
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()}
