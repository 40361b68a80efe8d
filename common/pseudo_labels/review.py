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
from ..report.page import SUMMARY, Report
from ..serving.prediction_files import ScanNibabelWriter
from ..tensors import plain

FOLDER = "pseudo_labels"
COLUMNS = ("pseudo label", "teaches nothing")


class LabelReview:
    """Write `output_dir`/pseudo_labels: a NIfTI a case on the scan's own grid, and a report with a section a case.

    Written before anything learns from the pseudo labels. A bundle's own class says what stands beside the pictures:
    `introduction`, `rows` and `label_rows`, and what `rows` mean.

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
        return [{"case": case, **self.volumes(case)} for case in self.labeller.cases]

    def label_rows(self, case: str) -> list[dict[str, Any]]:
        """Return one row a label of a case."""
        volumes = self.labeller.judgement(case)["volume_ml"]
        return [{"label": self.cohort.labels[int(v)], "volume (ml)": volume} for v, volume in volumes.items()]

    def heading(self, case: str) -> str:
        """Return the title of a case's table."""
        return f"{case}: {'learnt from' if case in self.selected else 'rejected'}"

    def describe_case(self, page: Report, case: str) -> None:
        """Add to a case's section what only this method has."""

    # --- what all have in common

    @property
    def selected(self) -> list[str]:
        """Cases that are learnt from: those that the labeller selects, or all."""
        return list(getattr(self.labeller, "selected", self.labeller.cases))

    def page(self) -> Report:
        page = Report(f"Pseudo labels of {self.cohort.name}", self.folder)
        page.add_text(self.introduction())
        if self.lost():
            page.add_text(
                f"No pseudo label has a single voxel of {' or '.join(self.lost())}: the network can't learn it."
            )
        page.add_table("All cases", self.rows(), self.meaning or None, section=SUMMARY)
        for item in self.images:
            case = item["case"]
            page.add_table(self.heading(case), self.label_rows(case), section=case)
            self.describe_case(page, case)
            page.add_overlay(f"{case}: {', '.join(COLUMNS)}", self.picture(item), section=case)
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
        maps = (known["target"].argmax(0), (known["weight"][0] == 0) * (len(names) - 1))
        return grid_overlay(item["image"], dict(zip(COLUMNS, maps, strict=True)), names, self.cohort.grid.pixdim)
