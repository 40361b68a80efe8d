"""The end of a training run: the deployed network beside the adapted SAM that taught it."""

from __future__ import annotations

from typing import Any

from .common.report.finish import Finish as CommonFinish
from .common.report.overlay import grid_overlay
from .common.report.page import LABELS, Report
from .common.report.pictures import Card
from .common.scoring.compared import Compared
from .evaluation import ITSELF
from .plan import AdapterPlan

PICTURED = 4


class Finish(CommonFinish):
    """`report.finish.Finish` beside the adapted SAM's own answers, with the masks it gave the unlabelled volumes."""

    title = "SAM adapters"
    to_compare = (
        "the same command with --plain_control true --resume true trains a plain UNet of the same labels beside it"
    )

    def __init__(self, plan: AdapterPlan, **options: Any) -> None:
        super().__init__(plan=plan, **options)
        self.model, self.labeller = plan.network, plan.labeller

    def compared(self) -> list[Compared]:
        return [
            Compared("method", "network taught by it", "dice"),
            ITSELF,
            Compared("gain", "gain over SAM", against=ITSELF.name),
        ]

    def results(self) -> dict[str, Any]:
        return {
            "labeled": len(self.cohort.labeled),
            "unlabeled": len(self.cohort.unlabeled),
            "parts": self.model.settings,
            "trained_parameters": self.model.trained_count,
            "sam": self.model.sam.name,
            "slice_axis": self.cohort.slice_axis,
            "grid": self.cohort.grid.as_dict(),
            "slice_grid": self.cohort.slice_grid.as_dict(),
            "dice": self.scores(),
        }

    def introduction(self) -> str:
        parts = ", ".join(f"{name} {value}" for name, value in self.model.names.items() if value)
        names = ", ".join(case["case"] for case in self.cohort.labeled)
        taught = (
            f"The masks that it gave the {len(self.cohort.unlabeled)} unlabelled volumes taught the light network, "
            "beside the true labels."
            if self.cohort.unlabeled
            else "There are no unlabelled volumes: the light network learnt from the true labels alone."
        )
        return (
            f"{len(self.cohort.labeled)} labelled volumes ({names}) taught {self.model.trained_count:,} parameters "
            f"beside a frozen {self.model.sam.name}: {parts}. {taught}"
        )

    def limits(self) -> list[str]:
        return [
            "The model was chosen without any label but those learnt from: it is the last one.",
            "SAM is used in training and in this report, never in prediction.",
            f"Base: {self.model.sam.name} at {self.model.sam.preprocessing.image_size} pixels. Public SAMs may have "
            "seen public data.",
        ]

    def describe(self, page: Report) -> None:
        if not self.cohort.unlabeled:
            return
        names, cards = dict(enumerate(self.cohort.labels.values())), []
        for item in [item for item in self.labeller.images if "label" not in item][:PICTURED]:
            target = self.labeller.load(item["case"])["target"].argmax(0)
            picture = grid_overlay(item["image"], {"pseudo label": target}, names, self.cohort.grid.pixdim)
            cards.append(Card(item["case"], "what the adapted SAM found in a scan without a mask", picture))
        page.add_cards(cards, LABELS)
        note = "What the adapted SAM found in each; confidence is the mean probability over a label's voxels."
        page.add_table("What the light network learnt from", self.labeller.rows(), note, section=LABELS)
