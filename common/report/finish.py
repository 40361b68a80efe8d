"""The end of a training run: model.pt, scores on the cases whose truth may be seen, the table and the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from monai.engines import Evaluator
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor, nn

from ..control.verdict import BELOW, Verdict, judge
from ..costs.pieces import rehearsal
from ..data.label_names import bundle_name, follow_model
from ..errors import printable
from ..files.tensor_files import atomic_save
from ..launch.words import path
from ..levels.network import deployed
from ..review.knowledge import read_knowledge
from ..review.learning import ReviewLearning
from ..run.manifest import RunManifest
from ..scoring.compared import COARSE, PLAIN, Compared
from ..scoring.handler import NativeGridMetrics
from ..scoring.metrics import POOR, percent, under_title
from ..training.plan import Plan
from .gallery import Gallery
from .page import LIMITS, STRUCTURES, Report
from .reliability import add_reliability
from .scored import Scored, three_decimals

UNDER = (
    f"{under_title()}: the share of the cases in which {{title}} has a Dice under {POOR:.2f}, which a person would "
    "rather draw anew than correct; overall, of their means over the labels."
)


class Finish:
    """Write models/model.pt, evaluate on the native grid, print the table, write report.html and run.json.

    A bundle's own class says which columns are compared (`compared`), what run.json keeps (`results`), and what its
    report says (`introduction`, `describe`, `limits`).

    Args:
        plan: of the run; its cohort has `name`, and `scored`, the cases whose truth may be looked at.
        network: what is deployed.
        ckpt_path: where its weights go; a file that is there is kept as `<name>.previous.pt`.
        evaluator, metrics, gallery: of the cases to score.
        review_learning: looks at model.pt, for the report, too; None: nothing does.

    Where metadata.json of the bundle names other labels than the cohort it is brought in line, see `follow_model`.
    """

    title = "prediction"
    to_compare = ""  # how to get a control, where a run may have none

    def __init__(
        self,
        plan: Plan,
        network: nn.Module,
        ckpt_path: str,
        evaluator: Evaluator,
        metrics: NativeGridMetrics,
        gallery: Gallery,
        review_learning: ReviewLearning | None = None,
    ) -> None:
        self.plan, self.network, self.ckpt_path = plan, network, Path(path(ckpt_path))
        self.manifest: RunManifest = plan.run.manifest
        self.cohort: Any = plan.cohort  # each bundle knows its own kind
        self.evaluator, self.metrics, self.gallery = evaluator, metrics, gallery
        self.review_learning = review_learning

    def run(self) -> None:
        """Do all of it; with several processes each scores its share and the first one writes."""
        main = idist.get_rank() == 0
        if main:
            atomic_save(self.weights(), self.ckpt_path, previous=self.ckpt_path.with_suffix(".previous.pt"))
        one = rehearsal()
        if self.cohort.scored:
            if one is not None:
                one.watch_engine(self.evaluator, self.cohort.scored)
            self.plan.measure("evaluate", self.evaluator.run)
        if main:
            verdicts = self.verdicts()
            metadata = self.plan.run.bundle_root / "configs" / "metadata.json"
            self.manifest.results = {
                "bundle": bundle_name(metadata),
                **self.results(),
                "verdicts": [verdict.as_dict() for verdict in verdicts],
            }
            self.manifest.write()
            self.print_table()
            self.print_verdict(verdicts)
            print(f"model:  {printable(self.ckpt_path)}")
            if metadata.is_file():
                said = follow_model(metadata, self.cohort.labels, self.cohort.grid, self.ckpt_path)
                print(f"labels: {printable(said)}") if said else None
            if self.review_learning is not None:
                self.review_learning.run()
            print(f"report: {printable(self.report())}")
            if one is not None:
                one.parameters = sum(p.numel() for p in deployed(self.network).parameters())
        self.plan.run.release()

    # --- what a bundle says

    def weights(self) -> dict[str, Tensor]:
        """Return what model.pt holds, on the CPU, so that it opens on any machine."""
        return {name: tensor.cpu() for name, tensor in deployed(self.network).state_dict().items()}

    def compared(self) -> list[Compared]:
        """Return the columns of the comparison, in their order."""
        return [Compared("method", self.title, "dice")]

    def results(self) -> dict[str, Any]:
        """Return what run.json keeps of the outcome."""
        return {"grid": self.cohort.grid.as_dict(), "dice": self.scores()}

    def introduction(self) -> str:
        """Return the first paragraph of the report."""
        return ""

    def describe(self, page: Report) -> None:
        """Add to the report what only this method has."""

    def limits(self) -> list[str]:
        """Return what the reader of the report has to know to judge it."""
        return []

    # --- what all have in common

    def columns(self) -> list[Compared]:
        """Return what is compared, a plain control that was trained, and the first level alone where there are two."""
        known = any(PLAIN.column in row for row in self.metrics.table.rows)
        coarse = self.cohort.grid.fine is not None
        return [*self.compared(), *([PLAIN] if known else []), *([COARSE] if coarse else [])]

    def verdicts(self) -> list[Verdict]:
        """Return how the method fares beside each control, the strongest first; [] where nothing could be scored."""
        return judge(self.metrics.table.rows, self.title, [c for c in self.columns() if c.control])

    def scores(self) -> dict[str, dict[str, float]]:
        """Return the mean Dice of each compared column by label name and overall, {} where nothing could be scored."""
        if not self.metrics.table.rows:
            return {}
        return {
            name: {c.name: columns.get(c.column, {}).get("mean", math.nan) for c in self.columns() if c.column}
            for name, columns in self.metrics.table.summary().items()
        }

    def rows(self) -> list[dict[str, Any]]:
        """Return the comparison as a table: label, a number for each compared column, and behind the method's the share
        of its cases that are under `POOR`."""
        rows, summary = [], self.metrics.table.summary()
        for name, scores in self.scores().items():
            row: dict[str, Any] = {"label": name}
            for c in self.columns():
                row[c.title] = scores[c.name] if c.column else scores["method"] - scores[c.against]
                if c.name == "method":
                    row[under_title()] = percent(summary[name]["dice"]["under"])
            rows.append(row)
        return rows

    def print_table(self) -> None:
        """Print the comparison."""
        rows = self.rows()
        if not rows:
            print("no case with a label to score: validation and test hold none")
            return
        count = len({row["case"] for row in self.metrics.table.rows})
        table = Table(title=f"Dice, mean of {count} cases never seen in training, native grid")
        signed = {c.title for c in self.columns() if c.against}
        for column in rows[0]:
            table.add_column(column, justify="left" if column == "label" else "right")
        for row in rows:
            cells = [_cell(value, title in signed) for title, value in row.items() if title != "label"]
            table.add_row(Text(printable(row["label"])), *cells)
        Console().print(table)

    def print_verdict(self, verdicts: Sequence[Verdict]) -> None:
        """Say how the method fares beside its strongest control, or how to get one."""
        if verdicts:
            word = "warning" if verdicts[0].verdict == BELOW else "verdict"
            print(f"{word}: {printable(verdicts[0].text)}")
        elif self.metrics.table.rows and self.to_compare:
            print(f"verdict: none: {self.to_compare}")

    def report(self) -> Path:
        """Write report.html and return its path."""
        page = Report(f"{self.title} on {self.cohort.name}", self.manifest.path.parent)
        scored = Scored(self.metrics.table, self.columns(), self.gallery)
        scored.add_verdict(page, self.verdicts(), self.to_compare)
        page.add_text(self.introduction())
        scored.add_cases(page)
        rows = self.rows()
        if rows:
            scored.add_structures(page)
            shown = [{"structure" if k == "label" else k: three_decimals(v) for k, v in row.items()} for row in rows]
            title = "Mean Dice on scans that training never saw"
            page.add_table(title, shown, UNDER.format(title=self.title), STRUCTURES)
            scored.add_numbers(page)
        add_reliability(page, read_knowledge(self.ckpt_path).calibration, self.cohort.labels)
        self.describe(page)
        for name, trainer in self.plan.trainers.items():
            if trainer.progress.history:
                page.add_curves(f"What the stage {name!r} had still to learn (loss)", trainer.progress.history)
        page.add_costs(self.manifest)
        page.add_text(self.limits(), section=LIMITS)
        return page.write()


def _cell(value: float | str, signed: bool) -> str:
    if isinstance(value, str):
        return value
    return "–" if math.isnan(value) else f"{value:+.3f}" if signed else f"{value:.3f}"
