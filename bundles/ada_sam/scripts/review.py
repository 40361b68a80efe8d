"""What a person needs to judge a pseudo label: a volume, a picture, its numbers, and what looks wrong in words."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from .common.data.presence import AXES
from .common.pseudo_labels.review import LabelReview
from .common.report.page import SUMMARY, Report
from .volume.flags import RULE, everywhere, sentences, stand_out

MEANING = (
    "Agreement is the Dice of ADA-SAM's own answer with the true masks, on the slices that have them: it learnt from "
    "these. That of teachers is the Dice of ADA-SAM's and the 2D UNet's answers. What stands out says where to look; "
    "nothing compares with a truth that was not learnt from."
)


class Review(LabelReview):
    """`pseudo_labels.review.LabelReview` with the slices that had masks, the agreement on them, and what stands out."""

    meaning = MEANING

    def introduction(self) -> str:
        return (
            f"{supervision(self.cohort)}\n\nOf each scan look for: what its line says, a mask that jumps from slice to "
            "slice, another structure than the one meant. The answer on a slice that has a true mask was replaced by "
            "that mask."
        )

    @cached_property
    def judged(self) -> dict[str, Mapping[str, Any]]:
        """Case -> what the labeller noted of it."""
        return {case: self.labeller.judgement(case) for case in self.labeller.cases}

    @cached_property
    def told(self) -> dict[str, dict[str, list[str]]]:
        """Case -> label value -> flags that make it stand out among all cases."""
        return stand_out(self.judged)

    def oddities(self, case: str) -> list[str]:
        """Return what stands out in a case, in sentences."""
        return sentences(self.judged[case], self.told[case], self.cohort.labels)

    def everywhere(self) -> list[str]:
        """Return what is odd about most cases, in sentences."""
        return everywhere(self.judged, self.cohort.labels)

    def doubt(self, case: str) -> float:
        """Return how unsure the network was of a case."""
        return -min(self.judged[case].get("confidence", {"": 1.0}).values())

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a case, for a first look."""
        flags = {case: sum(map(len, told.values())) for case, told in self.told.items()}
        return [{**row, "stands out": "yes" if flags[row["case"]] else "no"} for row in self.labeller.rows()]

    def label_rows(self, case: str) -> list[dict[str, Any]]:
        """Return one row a label of a case: volume, agreement with the true masks and of the teachers, flags."""
        judged = self.judged[case]
        agreement, teachers = judged.get("agreement") or {}, judged.get("teachers")
        slices = self.cohort.label_slices.get(case, [])
        return [
            {
                "structure": self.cohort.labels[int(value)],
                "slices with masks": counted(slices) or "none",
                "volume (ml)": volume,
                "agreement with its masks": agreement.get(value),
                **({"agreement of teachers": teachers[value]} if teachers else {}),
                "stands out": ", ".join(self.told[case][value]) or "no",
                "odd, as others are": ", ".join(f for f in judged["flags"][value] if f not in self.told[case][value]),
            }
            for value, volume in judged["volume_ml"].items()
        ]

    def strips(self) -> dict[str, dict[str, list[float]]]:
        """Return the agreement with the true masks, and of both teachers, of each case by label."""
        found = {}
        for value, name in self.cohort.labels.items():
            kinds = {"agreement with its masks": "agreement", "agreement of teachers": "teachers"}
            numbers = {
                words: [
                    one[key][str(value)]
                    for one in self.judged.values()
                    if (one.get(key) or {}).get(str(value)) is not None
                ]
                for words, key in kinds.items()
            }
            if value != 0:
                found[name] = {words: of for words, of in numbers.items() if of}
        return {name: of for name, of in found.items() if of}

    def page(self) -> Report:
        page = super().page()
        page.add_text(self.everywhere(), SUMMARY)
        page.add_text(RULE, SUMMARY, fold="The rule by which a mask stands out")
        return page


def supervision(cohort: Any) -> str:
    """Return in a sentence what the user has told the method beside the images."""
    return f"Supervision: {cohort.describe()}."


def counted(slices: Any) -> str:
    """Return slices, from 0 as stored, as a viewer counts them: from 1."""
    return ", ".join(str(index + 1) for index in slices)


def mask_rows(cohort: Any) -> list[dict[str, Any]]:
    """Return which slices of which case had masks, as rows of a table."""
    title = f"{AXES[cohort.slice_axis]} slices with masks, counted from 1 along the file's axis"
    return [{"scan": case, title: counted(slices)} for case, slices in cohort.label_slices.items()]
