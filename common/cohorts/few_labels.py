"""A few labelled volumes and many unlabelled ones: who is who, on which grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data.datalist import Case, Datalist
from ..data.selection import few_labeled, strip_labels, with_labels
from ..launch.words import names, optional_number, truth
from .cohort import Cohort


class FewLabelCohort(Cohort):
    """Read a data set for learning from few labels; of the training labels only the chosen ones are opened.

    Args:
        dataset_dir, datalist, spatial_size, pixdim, max_voxels, divisor: see `Cohort`.
        num_labeled: how many of the training cases that have a label count as labelled; None for all of them, and all
            of them where a client has given the cases.
        labeled: ids of the labelled cases, in the place of a draw.
        seed: of the draw.
        federated: the data of one site of several: `num_labeled` is then the most that count as labelled, and there may
            be none, where other sites have some.

    Attributes, besides those of `Cohort`:
        labeled: the cases whose label is learnt from; case, image, label, and known_labels where that lacks some.
        unlabeled: all others of training and unlabeled; case and image alone.
        cases: both, the labelled ones first.
        images: the same, case and image alone.

    Raises:
        InputError: what is wrong with the datalist or a setting, one line a problem.
    """

    def __init__(
        self,
        dataset_dir: str | None,
        datalist: str | Datalist = "dataset.json",
        num_labeled: int | None = None,
        labeled: Sequence[str] | str | None = None,
        seed: int = 0,
        federated: bool = False,
        **grid: Any,
    ) -> None:
        super().__init__(dataset_dir, datalist, **grid)
        by_client = isinstance(datalist, Datalist)
        self.num_labeled = None if by_client else optional_number("num_labeled", num_labeled, whole=True)
        self.seed, self.federated = seed, truth("federated", federated)
        self.chosen_ids = names(labeled)
        count = sum("label" in case for case in self.content.training)
        wanted = self.num_labeled
        if self.federated and self.chosen_ids is None:
            wanted = count if wanted is None else min(wanted, count)
        if self.federated and wanted == 0:
            chosen: list[Case] = []
            self.unlabeled = strip_labels(self.content.training + self.content.unlabeled)
        else:
            chosen, self.unlabeled = few_labeled(self.content, wanted, seed, self.chosen_ids)
        self.labeled = with_labels(chosen)
        self.cases = self.labeled + self.unlabeled
        self.images = strip_labels(self.cases)

    def choose_atlases(self, images: Sequence[Any], folder: Path, channel: int | None = None) -> list[Case]:
        """Return the cases whose labels are registered to all others: the labelled ones, whatever the images show."""
        return self.labeled

    def labeled_indices(self) -> list[int]:
        """Return the positions of the labelled cases among `cases`."""
        return list(range(len(self.labeled)))

    def kinds(self) -> list[list[Case]]:
        return [self.labeled, self.unlabeled]

    def needs_foreground(self, case: Case) -> bool:
        return "label" in case

    @property
    def partial(self) -> bool:
        """Whether the label of some case doesn't tell about all structures."""
        return any("known_labels" in case for case in self.labeled)

    def describe_plan(self) -> list[str]:
        return [*super().describe_plan(), *self.describe_partial()]

    def describe_partial(self) -> list[str]:
        """Return a line on how many labels tell about each structure, a warning where none does; none where all do."""
        if not self.partial:
            return []
        told = {
            value: sum(value in case.get("known_labels", self.labels) for case in self.labeled)
            for value in self.labels
            if value
        }
        said = ", ".join(f"{self.labels[value]} {count}" for value, count in told.items())
        few = sum("known_labels" in case for case in self.labeled)
        lines = [f"known_labels: {few} of {len(self.labeled)} labels tell about some structures alone: {said}"]
        lacking = [self.labels[value] for value, count in told.items() if not count]
        return lines + [f"warning: no label tells about {', '.join(lacking)}: never learnt"] * bool(lacking)

    @property
    def settings(self) -> dict[str, Any]:
        own = {"num_labeled": self.num_labeled, "labeled": self.chosen_ids}
        return {**super().settings, **own, "seed": self.seed, "federated": self.federated}
