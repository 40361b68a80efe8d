"""What a person needs to judge a pseudo label: a volume, a picture, its numbers, and what looks wrong in words."""

from __future__ import annotations

from typing import Any

from .common.data.presence import AXES
from .common.pseudo_labels.review import LabelReview
from .common.report.page import Report

MEANING = (
    "Agreement is the Dice of ADA-SAM's own answer with the true masks, on the slices that have them: it learnt from "
    "these. That of teachers is the Dice of ADA-SAM's and the 2D UNet's answers. A flag "
    "says where to look; none compares with a truth that was not learnt from."
)


class Review(LabelReview):
    """`pseudo_labels.review.LabelReview` with the slices that had masks, the agreement on them, and the flags."""

    meaning = MEANING

    def introduction(self) -> str:
        return (
            f"{supervision(self.cohort)}\n\nOf each case look for: a flag, a volume far from those of the other cases, "
            "a mask that jumps from slice to slice, another structure than the one meant. The answer on a slice that "
            "has a true mask was replaced by that mask."
        )

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a case, for a first look."""
        return self.labeller.rows()

    def label_rows(self, case: str) -> list[dict[str, Any]]:
        """Return one row a label of a case: volume, agreement with the true masks and of the teachers, flags."""
        judged = self.labeller.judgement(case)
        agreement, teachers = judged.get("agreement") or {}, judged.get("teachers")
        return [
            {
                "label": self.cohort.labels[int(value)],
                "volume (ml)": volume,
                "agreement with its masks": agreement.get(value),
                **({"agreement of teachers": teachers[value]} if teachers else {}),
                "flags": ", ".join(judged["flags"][value]) or "none",
            }
            for value, volume in judged["volume_ml"].items()
        ]

    def describe_case(self, page: Report, case: str) -> None:
        slices = self.cohort.label_slices.get(case, [])
        masks = f"Masks on the slices {', '.join(map(str, slices))}." if slices else "No slice had a mask."
        page.add_text([masks, *self.labeller.judgement(case)["sentences"]], section=case)


def supervision(cohort: Any) -> str:
    """Return in a sentence what the user has told the method beside the images."""
    return f"Supervision: {cohort.describe()}."


def mask_rows(cohort: Any) -> list[dict[str, Any]]:
    """Return which slices of which case had masks, as rows of a table."""
    title = f"{AXES[cohort.slice_axis]} slices with masks, counted from 0 as stored"
    return [{"case": case, title: ", ".join(map(str, slices))} for case, slices in cohort.label_slices.items()]
