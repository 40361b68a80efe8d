"""The end of a training run of ADA-SAM: the deployed network beside ADA-SAM itself, and what both learnt from."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .common.levels.network import deployed
from .common.pseudo_labels.review import FOLDER
from .common.report.finish import Finish as CommonFinish
from .common.report.page import DATA, LABELS, Report
from .common.sam.adapters.registry import merged_state
from .common.scoring.compared import Compared
from .evaluation import ITSELF, SLICES, UNET
from .plan import FewSlicesPlan
from .review import MEANING, mask_rows, supervision
from .volume.flags import RULE

PICTURED = 6


class Finish(CommonFinish):
    """`report.finish.Finish` beside ADA-SAM's own answers on the same scans, with the pseudo labels and their flags."""

    title = "ADA-SAM"
    to_compare = (
        "the same command with --plain_control true --resume true trains a plain UNet of the same labels beside it"
    )

    def __init__(self, plan: FewSlicesPlan, **options: Any) -> None:
        super().__init__(plan=plan, **options)
        self.base, self.labeller, self.review = plan.adapted.base, plan.labeller, plan.review
        self.itself = plan.network is plan.volume

    def weights(self) -> dict[str, Tensor]:
        # adapters folded in; a segmenter has none
        return {name: tensor.cpu() for name, tensor in merged_state(deployed(self.network)).items()}

    def compared(self) -> list[Compared]:
        if self.itself:
            return [Compared("method", self.title, "dice"), SLICES]
        known = any(UNET.column in row for row in self.metrics.table.rows)
        return [
            Compared("method", "segmenter taught by it", "dice"),
            ITSELF,
            SLICES,
            *([UNET] if known else []),
            Compared("gain", "gain over ADA-SAM", against=ITSELF.name),
        ]

    def results(self) -> dict[str, Any]:
        return {
            "supervision": supervision(self.cohort),
            "label_slices": self.cohort.label_slices,
            "positive_share": {self.cohort.labels[v]: share for v, share in self.cohort.positive_share.items()},
            "slice_axis": self.cohort.slice_axis,
            "training_cases": len(self.cohort.cases),
            "base": self.base,
            "deployed": "ADA-SAM itself" if self.itself else "segmenter",
            "grid": self.cohort.grid.as_dict(),
            "flags": self.flags(),
            "dice": self.scores(),
        }

    def flags(self) -> dict[str, list[str]]:
        """Return what stands out in the pseudo label of each case, in sentences; cases without any are left out."""
        if self.review is None:
            return {}
        said = {case: self.review.oddities(case) for case in self.review.worst_first()}
        return {case: sentences for case, sentences in said.items() if sentences}

    def introduction(self) -> str:
        what = (
            "What is deployed is ADA-SAM itself: it encodes every slice, prompts itself and follows each structure "
            "through the volume."
            if self.itself
            else "What is deployed is a light network that learnt the masks, and ADA-SAM's answers between them. "
            "Beside it stand ADA-SAM itself on the same scans, led through the volume, and slice by slice."
        )
        return (
            f"{supervision(self.cohort)}\n\n{what} Every number comes from own prompts: no box, bit or mask of a "
            "scored scan was given to anything."
        )

    def limits(self) -> list[str]:
        return [
            "The model was chosen without any mask but those learnt from: it is the last one.",
            "Agreement on slices with masks is no test: they were learnt from.",
            "What stands out differs from the other scans or within itself. What doesn't may be wrong all the same.",
            f"Base: {self.base['sam']} at {self.base['image_size']} pixels. Public SAMs may have seen public data.",
        ]

    def describe(self, page: Report) -> None:
        page.add_table("Which slices had masks", mask_rows(self.cohort), section=DATA)
        if self.review is None:
            return
        flags, count = self.flags(), len(self.labeller.cases)
        page.add_text(
            f"{len(flags)} of {count} masks stand out. Every mask has a picture in report.html of the folder {FOLDER} "
            "beside this page, and a file there.", section=LABELS,
        )  # fmt: skip
        page.add_text(self.review.everywhere(), LABELS)
        page.add_cards(self.review.cards(PICTURED), LABELS)
        page.add_text(RULE, LABELS, fold="The rule by which a mask stands out")
        self.review.add_strips(page, LABELS)
        page.add_table("What the segmenter learnt from", self.review.rows(), MEANING, LABELS, fold=True)
        rows = [{"scan": case, "look at": " ".join(said)} for case, said in flags.items()]
        page.add_table("All masks that stand out", rows, section=LABELS)
