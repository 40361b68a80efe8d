"""The end of a training run of WeakMedSAM: controls beside the model, presence, the paper's metric, what taught it."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

from monai.networks.utils import eval_mode

from .common.errors import printable
from .common.pseudo_labels.judgement import overlap
from .common.report.finish import Finish as CommonFinish
from .common.report.page import LABELS, NUMBERS, STRUCTURES, Report
from .common.scoring.compared import Compared
from .common.tensors import plain
from .evaluation import CENTRE, PRIOR
from .plan import WeakPlan
from .review import FOLDER, MEANING, supervision
from .scoring.learnt import not_learnt
from .scoring.slice_parity import COLUMNS

PICTURED = 6
ASKED = 8  # training scans that the network is asked about what it was taught


class Finish(CommonFinish):
    """`report.finish.Finish` beside the centre ellipse and the prior alone, with the pseudo labels it learnt from."""

    title = "WeakMedSAM"

    def __init__(self, plan: WeakPlan, **options: Any) -> None:
        super().__init__(plan=plan, **options)
        self.labeller, self.features, self.review = plan.labeller, plan.features, plan.review

    @cached_property
    def agreement(self) -> dict[str, float]:
        """Label name -> mean Dice of the trained first level with the pseudo labels of some scans it has learnt from.

        No truth is opened for it, and the network is not told the bits. A scan without the label is left out.
        """
        chosen = [item for item in self.labeller.images if item["case"] in self.labeller.selected]
        found: dict[str, list[float]] = {name: [] for value, name in self.cohort.labels.items() if value != 0}
        network, inferer = self.evaluator.network, self.evaluator.inferer
        for item in chosen[:: max(1, len(chosen) // ASKED)][:ASKED]:
            taught = self.labeller.load(item["case"])["target"][1:] > 0.5
            with eval_mode(network):
                answer = inferer(plain(item["image"]).float()[None].to(next(network.parameters()).device), network)[0]
            classes = answer.argmax(0).cpu()
            for row, (name, wanted) in enumerate(zip(found, taught, strict=True), start=1):
                if bool(wanted.any()):
                    found[name].append(overlap(classes == row, wanted))
        return {name: sum(scores) / len(scores) for name, scores in found.items() if scores}

    def print_table(self) -> None:
        super().print_table()
        missed = not_learnt(self.agreement)
        if missed is not None:
            print(f"verdict: {printable(missed)}", flush=True)

    def compared(self) -> list[Compared]:
        return [
            Compared("method", self.title, "dice"),
            PRIOR,
            CENTRE,
            Compared("gain", "gain over prior", against=PRIOR.name),
        ]

    def results(self) -> dict[str, Any]:
        return {
            "supervision": supervision(self.labeller),
            "positive_share": {self.cohort.labels[v]: share for v, share in self.cohort.positive_share.items()},
            "slice_axis": self.cohort.slice_axis,
            "training_cases": len(self.cohort.cases),
            "learnt_from": len(self.labeller.selected),
            "rejected": list(self.cohort.reject),
            "backbone": self.features.name,
            "prior": self.labeller.prior,
            "grid": self.cohort.grid.as_dict(),
            "dice": self.scores(),
            "agreement_with_pseudo_labels": self.agreement,
            "auc": self.means("auc"),
            "index_auc": self.means("index auc"),
            "slice_metric_of_the_paper": {name: self.means(name) for name in COLUMNS},
        }

    def means(self, column: str) -> dict[str, float]:
        """Return the mean of a column by label name, {} where nothing could be scored."""
        if not self.metrics.table.rows:
            return {}
        summary = self.metrics.table.summary()
        return {name: columns[column]["mean"] for name, columns in summary.items() if column in columns}

    def introduction(self) -> str:
        missed = not_learnt(self.agreement)
        return (
            f"{len(self.cohort.cases)} volumes without a mask. {supervision(self.labeller)} "
            f"{self.cohort.describe_share()}: the nearer to all or to none, the less a bit says.\n\n"
            f"The network learnt from {len(self.labeller.selected)} pseudo labels, the prior {self.labeller.prior!r}. "
            "Both controls, the prior alone and an ellipse in the centre, are told on which slices the structure is; "
            "the network is not. A result below them is no result."
            + ("" if missed is None else f"\n\nWarning: {missed}.")
        )

    def limits(self) -> list[str]:
        used = f"Backbone: {self.features.name}, used in training only." if self.features.name else (
            "No SAM was used: the prior is a place, not an image feature."
        )  # fmt: skip
        return [
            "The model was chosen without any mask: it is the last one. Settings are chosen without masks too.",
            "Agreement, consistency and volume of a pseudo label compare it with itself, not with the truth.",
            "Bits can't tell a structure from another that begins and ends on the same slices.",
            used,
        ]

    def describe(self, page: Report) -> None:
        presence = [
            {"structure": name, "model": value, "slice index alone": self.means("index auc").get(name, math.nan)}
            for name, value in self.means("auc").items()
        ]
        if presence:
            note = "Mean over cases that have slices of both kinds. The slice index looks at no image."
            page.add_table("Is it on this slice? Area under the ROC curve", presence, note, section=STRUCTURES)
            found = {name: self.means(name) for name in COLUMNS}
            rows = [
                {"structure": name} | {column: found[column].get(name) for column in COLUMNS}
                for name in found[COLUMNS[0]]
            ]
            note = (
                "Each slice by itself, in pixels, an empty prediction on an empty slice counting 1 and misses left out "
                "of the distances: a network that finds nothing scores the share of empty slices. For comparison with "
                "the paper only, never with a volume Dice."
            )
            page.add_table("The paper's per-slice metric", rows, note, section=NUMBERS, fold=True)
        page.add_text(
            f"Every mask has a picture in report.html of the folder {FOLDER} beside this page, and a file there. "
            f"The {min(PICTURED, len(self.labeller.cases))} least consistent from slice to slice:", section=LABELS,
        )  # fmt: skip
        page.add_cards(self.review.cards(PICTURED), LABELS)
        self.review.add_strips(page, LABELS)
        page.add_table("What the network learnt from", self.review.rows(), MEANING, LABELS, fold=True)
