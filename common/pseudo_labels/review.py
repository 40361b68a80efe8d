"""What a person needs to judge pseudo labels: a volume of each to look at, and a page with a picture and numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np

from ..errors import printable
from ..grid.native import ToNativeGridd
from ..processes import own_share
from ..report.overlay import grid_overlay
from ..report.page import CASES, NUMBERS, STRUCTURES, Report
from ..report.pictures import Card
from ..report.plots import draw_strips
from ..report.tables import format_value, mean, plain_text
from ..serving.prediction_files import ScanNibabelWriter
from ..tensors import plain

FOLDER = "pseudo_labels"
COLUMNS = ("pseudo label", "teaches nothing")


class LabelReview:
    """Write `output_dir`/pseudo_labels: a NIfTI a case on the scan's own grid, and a report, the most doubtful first.

    Written before anything learns from the pseudo labels. A bundle's own class says what stands beside the pictures:
    `introduction`, `rows` and `label_rows`, what `rows` mean, and what stands out (`oddities`, `doubt`, `strips`).

    Args:
        labeller: has `cases` (ids), `load(case)` -> {"target" [K, H, W, D], "weight" [1, H, W, D]}, and
            `judgement(case)` -> {"volume_ml": {label value as text: ml}, ...}.
        cohort: has `name`, `labels` and `grid`.
        images: sequence of {"case", "image" [1, H, W, D]} on the common grid.
        output_dir: of the run.
    """

    meaning = ""  # of the numbers in `rows`

    def __init__(self, labeller: Any, cohort: Any, images: Sequence[Mapping[str, Any]], output_dir: str) -> None:
        self.labeller, self.cohort, self.images = labeller, cohort, images
        self.folder = Path(output_dir).expanduser() / FOLDER

    def write(self) -> None:
        """Write volumes (every process its share) and the page."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for item in own_share(self.images):
            self.save_volume(item)
        if idist.get_rank() == 0:
            self.page().write()
            for label in self.lost():
                print(f"warning: no pseudo label has a single voxel of {printable(label)}; the network can't learn it")
            left = len(self.labeller.cases) - len(self.selected)
            print(f"pseudo labels: {printable(self.folder)} ({len(self.selected)} to learn from, {left} rejected)")
        idist.barrier()

    def save_volume(self, item: Mapping[str, Any]) -> Path:
        """Write the hard pseudo label of a case as label values on the grid of its file."""
        target = self.labeller.load(item["case"])["target"]
        native = ToNativeGridd("target", self.cohort.grid.label_values)({"image": item["image"], "target": target})
        path = self.folder / f"{item['case']}.nii.gz"
        label = native["target"]
        kind = np.uint8 if max(self.cohort.grid.label_values) < 256 else np.uint16
        writer = ScanNibabelWriter(output_dtype=kind)
        writer.set_data_array(plain(label), channel_dim=0)
        writer.set_metadata({**label.meta, "affine": label.affine}, resample=False)
        writer.write(path)
        return path

    # --- what a bundle says

    def introduction(self) -> str:
        """Return the first paragraphs of the page."""
        return ""

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a case, for a first look."""
        return [{"scan": case, **self.volumes(case)} for case in self.labeller.cases]

    def label_rows(self, case: str) -> list[dict[str, Any]]:
        """Return one row a label of a case."""
        volumes = self.labeller.judgement(case)["volume_ml"]
        return [{"structure": self.cohort.labels[int(v)], "volume (ml)": volume} for v, volume in volumes.items()]

    def oddities(self, case: str) -> list[str]:
        """Return what stands out in a case, in sentences; [] where nothing does."""
        return []

    def doubt(self, case: str) -> float:
        """Return how doubtful a case is beside others: the most doubtful come first."""
        return 0.0

    def strips(self) -> dict[str, dict[str, list[float]]]:
        """Return a number from 0 to 1 of each case: label's name -> what it is -> numbers, for a plot."""
        return {}

    # --- what all have in common

    @property
    def selected(self) -> list[str]:
        """Cases that are learnt from: those that the labeller selects, or all."""
        return list(getattr(self.labeller, "selected", self.labeller.cases))

    def worst_first(self) -> list[str]:
        """Return the cases in the order in which to look at them."""
        return sorted(self.labeller.cases, key=lambda case: (-len(self.oddities(case)), -self.doubt(case)))

    def cards(self, limit: int | None = None) -> list[Card]:
        """Return the cases in the order in which to look at them, with a picture each, or of the first `limit`."""
        items, cards = {item["case"]: item for item in self.images}, []
        for case in self.worst_first()[:limit]:
            said = self.oddities(case)
            volumes = ", ".join(f"{name.removesuffix(' (ml)')} {ml:.1f} ml" for name, ml in self.volumes(case).items())
            line = " ".join(said) or f"Nothing stands out: {volumes}."
            badge = ("look" if said else "") if case in self.selected else "rejected"
            alt = f"{case} in three planes: the mask, and what of it teaches nothing. {line}"
            cards.append(Card(case, line, self.picture(items[case]), alt, badge, bool(said)))
        return cards

    def add_strips(self, page: Report, section: str) -> None:
        """Add the plot of `strips`."""
        strips = self.strips()
        if not strips:
            return
        clean = {plain_text(name): {plain_text(what): n for what, n in of.items()} for name, of in strips.items()}
        draw, size = draw_strips(clean, "1 is the best there can be")
        alt = "; ".join(
            f"{name}, {what}: {format_value(mean(numbers))} on average"
            for name, of in strips.items()
            for what, numbers in of.items()
        )
        page.add_plot("Masks made by the computer, a dot each; a bar is the mean", draw, f"{alt}.", section, size)

    def page(self) -> Report:
        page = Report(f"Masks made by the computer for {self.cohort.name}", self.folder)
        odd = sum(bool(self.oddities(case)) for case in self.labeller.cases)
        lead = f"{len(self.selected)} of {len(self.labeller.cases)} masks are learnt from."
        page.add_verdict(
            lead + (f" {odd} stand{'s' if odd == 1 else ''} out and should be looked at first." if odd else ""), []
        )
        page.add_text(self.introduction())
        if self.lost():
            page.add_text(f"No mask has a single voxel of {' or '.join(self.lost())}: the network can't learn it.")
        page.add_cards(self.cards(), CASES)
        self.add_strips(page, STRUCTURES)
        page.add_table("All scans", self.rows(), self.meaning or None, NUMBERS, fold=True)
        labels = [{"scan": case, **row} for case in self.worst_first() for row in self.label_rows(case)]
        page.add_table("Each structure of each scan", labels, section=NUMBERS, fold=True)
        return page

    def volumes(self, case: str) -> dict[str, float]:
        """Return the volume of each label of a case as columns of a table."""
        return {
            f"{self.cohort.labels[int(v)]} (ml)": ml for v, ml in self.labeller.judgement(case)["volume_ml"].items()
        }

    def lost(self) -> list[str]:
        """Return the names of the labels that none of the selected cases has a voxel of."""
        judged = [self.labeller.judgement(case)["volume_ml"] for case in self.selected]
        return [self.cohort.labels[int(v)] for v in (judged[0] if judged else ()) if not any(j[v] for j in judged)]

    def picture(self, item: Mapping[str, Any]) -> bytes:
        """Draw a case's pseudo label, beside it the voxels that teach nothing."""
        known, names = self.labeller.load(item["case"]), dict(enumerate([*self.cohort.labels.values(), COLUMNS[1]]))
        target = known["target"].argmax(0)
        maps = dict(zip(COLUMNS, (target, (known["weight"][0] == 0) * (len(names) - 1)), strict=True))
        return grid_overlay(item["image"], maps, names, self.cohort.grid.pixdim, target > 0)
