"""The end of a run that trains nothing: model.pt, scores beside the copied masks, report."""

from __future__ import annotations

from typing import Any

from ..common.report.finish import Finish
from ..common.scoring.compared import Compared
from .evaluation import COPIED
from .plan import ZeroStepPlan


class ZeroStepFinish(Finish):
    """`report.finish.Finish` beside the nearest slice's mask, copied."""

    title = "first label"
    plan: ZeroStepPlan

    def compared(self) -> list[Compared]:
        return [Compared("method", self.title, "dice"), COPIED]

    def results(self) -> dict[str, Any]:
        supports = self.plan.body.supports
        counted = {"labeled": len(self.cohort.labeled), "slices": 0 if supports is None else len(supports)}
        return {**super().results(), **counted, "sam": self.plan.body.sam.name}

    def introduction(self) -> str:
        names = ", ".join(case["case"] for case in self.cohort.labeled)
        return (
            f"Nothing was trained: {len(self.cohort.labeled)} labelled volumes ({names}) are looked up. The labelled "
            "slices that are nearest to a slice are brought to it and vote, the vote prompts "
            f"{self.plan.body.sam.name}, and masks are handed on from the middle of a structure outwards. The control "
            "is the mask of the one nearest slice, copied."
        )

    def limits(self) -> list[str]:
        return [
            "A first label is a start for somebody who corrects it, no segmentation to rely on.",
            "The labelled volumes are part of model.pt, as features and label maps of their slices: hand it over as "
            "one hands over labelled scans.",
        ]
