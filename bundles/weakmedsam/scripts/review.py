"""What a person needs to reject a pseudo label: a volume to look at, and a page with a picture and numbers of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np

from .cohort import WeakCohort
from .common.native_grid import ToNativeGridd
from .common.overlay import overlay_png
from .common.prediction_files import AtomicNibabelWriter
from .common.pseudo_label import plain
from .common.report import SUMMARY, Report

FOLDER = "pseudo_labels"
COLUMNS = ("pseudo label", "teaches nothing")
JUDGED = {"agreement": "agreement", "z_consistency": "consistency"}
MEANING = (
    "Agreement is the Dice of the pseudo label with its prior alone, consistency that of neighbouring slices; lowest "
    "is over the labels. A consistency far below that of the other cases says that the label jumps."
)


class Review:
    """Write `output_dir`/pseudo_labels: a NIfTI a case on the scan's own grid, and a report with a section a case.

    Written before anything learns from the pseudo labels. A case is left out of the training that follows by naming it
    in the datalist's `reject` and resuming, or starting anew.

    Args:
        labeller: has `cases`, `selected`, `load` and `judgement` of each case.
        cohort: of the training cases.
        images: sequence of {"case", "image" [1, H, W, D]} on the common grid.
        output_dir: of the run.
    """

    def __init__(self, labeller: Any, cohort: WeakCohort, images: Sequence[Mapping[str, Any]], output_dir: str) -> None:
        self.labeller, self.cohort, self.images = labeller, cohort, images
        self.folder = Path(output_dir) / FOLDER

    def write(self) -> None:
        """Write volumes (every process its share) and the page."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for item in list(self.images)[idist.get_rank() :: idist.get_world_size()]:
            self.save_volume(item)
        if idist.get_rank() == 0:
            self.page().write()
            for label in self.lost():
                print(f"warning: no pseudo label has a single voxel of {label}; the network can't learn it")
            left = len(self.labeller.cases) - len(self.labeller.selected)
            print(f"pseudo labels: {self.folder} ({len(self.labeller.selected)} to learn from, {left} rejected)")
        idist.barrier()

    def save_volume(self, item: Mapping[str, Any]) -> Path:
        """Write the hard pseudo label of a case as label values on the grid of its file."""
        target = self.labeller.load(item["case"])["target"]
        native = ToNativeGridd("target", self.cohort.grid["label_values"])({"image": item["image"], "target": target})
        path = self.folder / f"{item['case']}.nii.gz"
        label = native["target"]
        kind = np.uint8 if max(self.cohort.grid["label_values"]) < 256 else np.uint16
        writer = AtomicNibabelWriter(output_dtype=kind)
        writer.set_data_array(plain(label), channel_dim=0)
        writer.set_metadata({"affine": label.affine}, resample=False)
        writer.write(path)
        return path

    # --- the page

    def page(self) -> Report:
        page = Report(f"Pseudo labels of {self.cohort.name}", self.folder)
        page.add_text(
            f"{supervision(self.labeller)} {self.cohort.describe_share()}.\n\n"
            "To leave a case out of the training, put its id into the list reject of the datalist and run again. Of "
            "each case look for: a volume far from the typical one, a mask that jumps from slice to slice, another "
            "structure than the one meant. No number here compares with truth."
        )
        if self.lost():
            page.add_text(
                f"No pseudo label has a single voxel of {' or '.join(self.lost())}: the network can't learn it."
            )
        page.add_table("All cases", self.rows(), MEANING, section=SUMMARY)
        for item in self.images:
            case = item["case"]
            learnt = "learnt from" if case in self.labeller.selected else "rejected"
            page.add_table(f"{case}: {learnt}", self.label_rows(case), section=case)
            page.add_overlay(f"{case}: {', '.join(COLUMNS)}", self.picture(item), section=case)
        return page

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a case, for a first look: volumes, and the lowest of what is judged label by label."""
        rows = []
        for case in self.labeller.cases:
            judged = self.labeller.judgement(case)
            row: dict[str, Any] = {"case": case}
            row |= {f"{self.cohort.labels[int(v)]} (ml)": volume for v, volume in judged["volume_ml"].items()}
            row |= {f"lowest {words}": min(judged[name].values()) for name, words in JUDGED.items()}
            rows.append(row | {"learnt from": "yes" if case in self.labeller.selected else "no"})
        return rows

    def lost(self) -> list[str]:
        """Return the names of the labels that none of the selected cases has a voxel of."""
        judged = [self.labeller.judgement(case)["volume_ml"] for case in self.labeller.selected]
        return [self.cohort.labels[int(v)] for v in (judged[0] if judged else ()) if not any(j[v] for j in judged)]

    def label_rows(self, case: str) -> list[dict[str, Any]]:
        """Return one row a label of a case: its volume beside the typical one, positive slices, further numbers."""
        judged, share = self.labeller.judgement(case), self.cohort.slice_labels[case].share
        return [
            {
                "label": self.cohort.labels[int(value)],
                "volume (ml)": volume,
                "typical volume (ml)": self.cohort.locations[int(value)].volume_ml,
                "positive slices (%)": 100 * float(positive),
                **{words: judged[name][value] for name, words in JUDGED.items()},
            }
            for (value, volume), positive in zip(judged["volume_ml"].items(), share, strict=True)
        ]

    def picture(self, item: Mapping[str, Any]) -> bytes:
        """Draw a case's pseudo label, beside it the voxels that teach nothing."""
        known, names = self.labeller.load(item["case"]), dict(enumerate([*self.cohort.labels.values(), COLUMNS[1]]))
        maps = (known["target"].argmax(0), (known["weight"][0] == 0) * (len(names) - 1))
        columns = {title: volume.int().numpy() for title, volume in zip(COLUMNS, maps, strict=True)}
        return overlay_png(plain(item["image"])[0].float().numpy(), columns, names, self.cohort.grid["pixdim"])


def supervision(labeller: Any) -> str:
    """Return in a sentence what the user has told the method beside the images."""
    said = ["presence bits of the slices"]
    if labeller.prior == "box":
        said.append("one typical box for each label")
    if labeller.threshold == "size":
        said.append("a rough volume for each label")
    return f"Supervision: {' and '.join([', '.join(said[:-1]), said[-1]] if len(said) > 1 else said)}."
