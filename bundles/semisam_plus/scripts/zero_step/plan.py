"""What comes before a first label: who is labelled, and what their slices look like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..common.cohorts.few_labels import FewLabelCohort
from ..common.data.selection import require_whole
from ..common.errors import InputError
from ..common.run.run import Run
from ..common.tensors import plain
from ..common.training.plan import Plan
from .network import ZeroStep

MOST = 255  # labelled volumes, whose number is kept in a byte


class SupportCohort(FewLabelCohort):
    """`FewLabelCohort` whose labelled cases are looked up.

    Raises:
        InputError: none is labelled, or more than `MOST`, or one not wholly; or the grid of the client's model has two
            levels.
    """

    def __init__(self, *data: Any, **options: Any) -> None:
        super().__init__(*data, **options)
        if not 0 < len(self.labeled) <= MOST:
            raise InputError(f"num_labeled: found {len(self.labeled)} labelled cases, wanted 1 to {MOST}")
        require_whole(self.labeled, self.labels, "a first label without training")
        if self.content.grid is not None and self.content.grid.fine is not None:
            raise InputError(
                "models/model.pt: found a trained model of two levels, wanted one or none: move it away and start the "
                "server anew"
            )


class ZeroStepPlan(Plan):
    """Bring the labelled volumes to the grid and keep their slices; no unlabelled one is needed.

    Args:
        run, cohort: see `Plan`.
        body: keeps them.
        preprocessing: of {"image", "label"}, paths, to the grid.
    """

    def __init__(self, run: Run, cohort: FewLabelCohort, body: ZeroStep, preprocessing: Callable) -> None:
        super().__init__(run, cohort, None, zero_step=body)
        self.body, self.preprocessing = body, preprocessing

    def stages(self) -> None:
        self.measure("supports", self.look)

    def look(self) -> None:
        """Load the labelled volumes, one after the other, and hand them to the body."""
        items = [self.preprocessing(case) for case in self.cohort.labeled]
        self.body.know([(plain(item["image"]), plain(item["label"])) for item in items])
