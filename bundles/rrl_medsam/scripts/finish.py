"""The end of a training run: model.pt, scores on the cases whose truth may be seen, the table and the report."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from monai.engines import Evaluator
from rich.console import Console
from rich.table import Table
from torch import nn

from .common.checkpoint import atomic_save
from .common.evaluation import NativeGridMetrics
from .common.overlay import overlay_png
from .common.progress import ProgressBar
from .common.pseudo_label import plain
from .common.report import CASES, LABELS, LIMITS, SUMMARY, Report
from .common.run_manifest import RunManifest
from .evaluation import Gallery
from .labeller import AtlasLabeller
from .teacher import SamTeacher


class Finish:
    """Write models/model.pt, evaluate on the native grid, print the table, write report.html and run.json."""

    def __init__(
        self,
        manifest: RunManifest,
        labeller: AtlasLabeller,
        network: nn.Module,
        ckpt_path: str,
        evaluator: Evaluator,
        metrics: NativeGridMetrics,
        gallery: Gallery,
        progress: Mapping[str, ProgressBar],
        teacher: SamTeacher,
    ) -> None:
        self.manifest, self.labeller, self.network, self.ckpt_path = manifest, labeller, network, Path(ckpt_path)
        self.evaluator, self.metrics, self.gallery = evaluator, metrics, gallery
        self.progress, self.sam = dict(progress), teacher.name

    def run(self) -> None:
        """Do all of it; with several processes each scores its share and the first one writes."""
        main = idist.get_rank() == 0
        if main:
            if self.ckpt_path.exists():  # an earlier run's model is kept
                os.replace(self.ckpt_path, self.ckpt_path.with_suffix(".previous.pt"))
            atomic_save(self.network.state_dict(), self.ckpt_path)
        if self.labeller.cohort.scored:
            self.manifest.measure("evaluate", self.evaluator.run)
        if main:
            self.manifest.results = self.results()
            self.manifest.write()
            self.print_table()
            print(f"model:  {self.ckpt_path}")
            print(f"report: {self.report()}")

    def scores(self) -> dict[str, dict[str, float]]:
        """Return mean Dice of propagation and method by label name and overall, {} where nothing could be scored."""
        if not self.metrics.table.rows:
            return {}
        summary = self.metrics.table.summary()
        return {
            name: {"propagation": columns["propagated_dice"]["mean"], "method": columns["dice"]["mean"]}
            for name, columns in summary.items()
        }

    def results(self) -> dict[str, Any]:
        """Return what run.json keeps of the outcome."""
        cohort, labeller = self.labeller.cohort, self.labeller
        return {
            "atlas": labeller.atlas["case"],
            "unlabeled": len(cohort.images) - 1,
            "learnt_from": len(labeller.selected) + 1,
            "grid": cohort.grid,
            "sam": self.sam,
            "dice": self.scores(),
        }

    def print_table(self) -> None:
        """Print the small table: label propagation, the method, its gain."""
        scores = self.scores()
        if not scores:
            print("no case with a label to score: validation and test hold none")
            return
        count = len({row["case"] for row in self.metrics.table.rows})
        table = Table(title=f"Dice, mean of {count} cases never seen in training, native grid")
        for column in ("label", "label propagation", "RRL-MedSAM", "gain"):
            table.add_column(column, justify="left" if column == "label" else "right")
        for name, row in scores.items():
            gain = row["method"] - row["propagation"]
            table.add_row(name, f"{row['propagation']:.3f}", f"{row['method']:.3f}", f"{gain:+.3f}")
        Console().print(table)

    def report(self) -> Path:
        """Write report.html and return its path."""
        cohort, labeller = self.labeller.cohort, self.labeller
        page = Report(f"RRL-MedSAM on {cohort.name}", self.manifest.path.parent)
        page.add_text(
            f"One labelled volume ({labeller.atlas['case']}) and {len(cohort.images) - 1} unlabelled ones. The last "
            f"round learnt from the atlas and the {len(labeller.selected)} pseudo labels of highest agreement."
        )
        scores = self.scores()
        if scores:
            rows = [
                {"label": name, "label propagation": r["propagation"], "RRL-MedSAM": r["method"],
                 "gain": r["method"] - r["propagation"]}
                for name, r in scores.items()
            ]  # fmt: skip
            page.add_table("Mean Dice on cases that training never saw", rows, section=SUMMARY)
            page.add_table("Each case on its native grid (distances in mm)", self.metrics.table.rows, section=CASES)
        for case, picture in self.gallery.pictures.items():
            page.add_overlay(f"{case}: label propagation, prediction, truth", picture, section=CASES)
        self._show_labels(page)
        for stage, progress in self.progress.items():
            if progress.history:
                page.add_curves(stage, progress.history)
        page.add_costs(self.manifest)
        left_out = "Without SAM: the distillation stage was left out."
        page.add_text(
            [
                "The model was chosen without any label but the atlas's: it is the last one.",
                "Quality of a pseudo label is the agreement of independent opinions, not a comparison with truth.",
                left_out if self.sam is None else f"Teacher: {self.sam}, frozen.",
            ],
            section=LIMITS,
        )
        return page.write()

    def _show_labels(self, page: Report) -> None:
        labeller, names = self.labeller, dict(enumerate(self.labeller.cohort.labels.values()))
        spacing = labeller.cohort.grid["pixdim"]
        atlas = labeller.atlas
        hard = atlas["label"][0].argmax(0).cpu().int().numpy()
        page.add_overlay(
            f"atlas {atlas['case']}, the one label learnt from",
            overlay_png(atlas["image"][0, 0].cpu().numpy(), {"atlas": hard}, names, spacing),
        )
        images = {item["case"]: item["image"] for item in labeller.images}
        judged = {case: labeller.labels.judgement(case) for case in images if case != atlas["case"]}
        ranked = sorted(judged, key=lambda case: -judged[case]["quality"])
        rows = [
            {"case": case, "agreement": judged[case]["quality"], "folded voxels (%)": judged[case]["folding_percent"],
             "learnt from": "yes" if case in labeller.selected else "no"}
            for case in ranked
        ]  # fmt: skip
        page.add_table("Pseudo labels of the last round, best first", rows, section=LABELS)
        last = len(ranked) - 1  # -1 where the atlas is the only case
        for word, place in {"best": 0, "median": len(ranked) // 2, "worst": last}.items() if ranked else ():
            case = ranked[place]
            label = labeller.labels.load(case)["label"].argmax(0).int().numpy()
            picture = overlay_png(plain(images[case])[0].float().numpy(), {"pseudo label": label}, names, spacing)
            page.add_overlay(f"pseudo label of {case}, {word} agreement ({judged[case]['quality']:.2f})", picture)
