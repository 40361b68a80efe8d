"""One labelled volume, or several, and many unlabelled ones: who is who, on which grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from .common.atlas.choosing.choice import choose_labelled, split_ids, tell_reach
from .common.atlas.choosing.reach import ScanReach
from .common.cohorts.cohort import Cohort
from .common.data.checks import require_sound
from .common.data.datalist import Case, Datalist
from .common.data.selection import few_labeled, labeled_cases, require_whole, strip_labels


class OneShotCohort(Cohort):
    """Read a data set for one-shot learning; of the training labels only those of the atlases are ever opened.

    Args:
        dataset_dir, datalist, spatial_size, pixdim, max_voxels, divisor: see `Cohort`.
        atlas: id of the labelled training case, several of them ("A,B", or a list), or "all" that have a label; None:
            the only one that has a label, else the one that reaches the other scans best (`choose_atlases`).

    Attributes, besides those of `Cohort`:
        images: training and unlabelled cases, case and image alone.
        candidates: ids of the training cases that have a label which tells about all structures; `num_candidates` of
            them where they were not narrowed.
        atlases: the labelled cases; none until `choose_atlases` has chosen one.

    Raises:
        InputError: what is wrong with the datalist or a setting, one line a problem; an atlas with `known_labels`.
    """

    def __init__(
        self,
        dataset_dir: str | None,
        datalist: str | Datalist = "dataset.json",
        atlas: Any = None,
        **grid: Any,
    ) -> None:
        super().__init__(dataset_dir, datalist, **grid)
        labelled = labeled_cases(self.content)
        whole = [case for case in labelled if "known_labels" not in case]
        if not whole:
            require_whole(labelled, self.labels, "an atlas")
        self.candidates = [case["case"] for case in whole]
        self.num_candidates = len(self.candidates)
        self.named_atlases = split_ids(atlas, self.candidates)
        self.images = strip_labels(self.content.training + self.content.unlabeled)
        self.atlases: list[dict[str, Any]] = []
        self.is_named = bool(self.named_atlases) or len(self.candidates) == 1
        if self.is_named:
            ids = self.named_atlases or self.candidates
            self.atlases = few_labeled(self.content, None, labeled=ids, kind="atlas")[0]
            require_whole(self.atlases, self.labels, "an atlas")
        self.cases: list[Case] = self.with_atlases()

    def with_atlases(self) -> list[Case]:
        """Return the atlases, with all that is known of them, then the other cases."""
        named = [case["case"] for case in self.atlases]
        return [*self.atlases, *(case for case in self.images if case["case"] not in named)]

    def needs_foreground(self, case: Case) -> bool:
        return "label" in case

    @property
    def whole_cases(self) -> list[Case]:
        return [{key: case[key] for key in ("case", "image", "label") if key in case} for case in self.with_atlases()]

    def kinds(self) -> list[list[Case]]:
        if self.atlases:
            named = [case["case"] for case in self.atlases]
            return [self.atlases, [case for case in self.images if case["case"] not in named]]
        one = [case for case in self.images if case["case"] == self.candidates[0]]  # it stands for the one to be chosen
        return [one, [case for case in self.images if case not in one]]

    def narrow(self, few: int, labeled: int, scored: int) -> dict[str, float]:
        stands_for = super().narrow(few, labeled, scored)
        self.candidates = [case for case in self.candidates if case in stands_for][:1]
        return stands_for

    def describe_labels(self, labelled: Sequence[Case]) -> str:
        if labelled:
            return super().describe_labels(labelled)
        return f"the label of one of {len(self.candidates)} training cases, chosen by their images (here of the first)"

    def choose_atlases(
        self, images: Sequence[Mapping[str, Tensor]], folder: Path, channel: int | None = None
    ) -> list[dict[str, Any]]:
        """Return the atlases, choosing the candidate that reaches the other scans best where none was named.

        Args:
            images: items {"case", "image" [C, H, W, D]} in the order of `self.images`.
            folder: where the choice is kept for whoever goes on with this run.
            channel: see `ScanReach`.
        """
        if not self.atlases:
            best = choose_labelled(ScanReach(images, channel), self.candidates, folder)
            atlases = few_labeled(self.content, None, labeled=best, kind="atlas")[0]
            require_sound(atlases, label_values=self.labels, dataset_dir=self.content.directory, needs_foreground=best)
            self.atlases = atlases
        return self.atlases

    def tell_reach(self, images: Sequence[Mapping[str, Tensor]], channel: int | None = None) -> None:
        """Say how an atlas that a person chose compares with other scans."""
        if self.is_named:
            tell_reach(images, [case["case"] for case in self.atlases], channel)

    @property
    def settings(self) -> dict[str, Any]:
        named = self.named_atlases
        return {**super().settings, "atlas": named[0] if len(named) == 1 else named or None}
