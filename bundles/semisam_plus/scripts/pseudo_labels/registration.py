"""Labels of the unlabelled cases, from registering the labelled ones to them before anything is learnt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any

import ignite.distributed as idist
from torch import Tensor

from ..common.atlas.labeller import AtlasLabeller
from ..common.atlas.reached import describe_reached
from ..common.cohorts.few_labels import FewLabelCohort
from ..common.data.selection import require_whole
from ..common.launch.words import optional, truth

MOST_LABELLED = 4  # up to so many labelled cases it is on by itself (docs/few_label.md)
PAIRS = 160  # registrations at most: of many unlabelled cases as many as that allows, evenly spaced
BRIDGES = 5  # of a single labelled case; several judge one another, and bridges would cost more than they do


class RegistrationLabels(AtlasLabeller):
    """Register all labelled cases to the unlabelled ones; of what they agree on best the specialist learns.

    No part of SemiSAM+. Consistency has nothing to hand on that the specialist has not found itself, a registration has
    the shape of the labelled cases. The network has no say here: there is one round of labels.

    Args:
        wanted: whether this is done at all; None: where 1 to `MOST_LABELLED` cases are labelled, if all of them tell
            about all structures.
        cohort: knows who is labelled.
        images: sequence of {"case", "image" [C, H, W, D]} on the common grid, in the order of `cohort.cases`.
        label_transform, folder, options: see `AtlasLabeller`.
    """

    def __init__(
        self,
        wanted: bool | str | None,
        cohort: FewLabelCohort,
        images: Sequence[Mapping[str, Any]],
        label_transform: Callable,
        folder: str,
        **options: Any,
    ) -> None:
        count = len(cohort.labeled)
        options = {"bridges": BRIDGES if count == 1 else 0} | options
        super().__init__(cohort, images, label_transform, None, None, None, folder, **options)
        planned = count <= MOST_LABELLED
        # background of a partial label would outvote the others' structures
        partial = any("known_labels" in case for case in cohort.labeled)
        planned = planned and not partial
        planned = planned if optional(wanted) is None else truth("labels_from_registration", wanted)
        self.on = planned and count > 0 and bool(cohort.unlabeled)
        if self.on and partial:
            require_whole(cohort.labeled, cohort.labels, "labels_from_registration")

    @property
    def settings(self) -> dict[str, Any]:
        """What the labels hang on, for run.json."""
        return {name: value for name, value in vars(self).items() if name in signature(AtlasLabeller).parameters}

    def tell(self) -> None:
        """Say how many cases the labels reached; where that is nearly none, nothing is learnt from them."""
        judged = self.judged()
        if not judged or not self.by_agreement:
            return
        line, enough = describe_reached(judged, dict(enumerate(self.cohort.labels.values())), sorted(self.labelled))
        if not enough:
            self.selected = []
            line = f"warning: {line}: too few, so nothing is learnt from registration"
        if idist.get_rank() == 0:
            print(line, flush=True)

    @property
    def unlabeled(self) -> set[str]:
        """Ids of the cases that are registered to."""
        others = [case["case"] for case in self.cohort.unlabeled]
        asked = min(len(others), max(PAIRS // max(len(self.cohort.labeled), 1), 1))
        return {others[i * len(others) // asked] for i in range(asked)}

    def load(self, case: str) -> Tensor | None:
        """Return the label [K, H, W, D] of a case, all classes 0 where nothing is known; None where it isn't learnt."""
        return self.labels.load(case)["label"] if case in self.selected else None
