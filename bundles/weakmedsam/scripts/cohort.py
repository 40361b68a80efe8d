"""Volumes of which only the slices are labelled, what a person says of their labels, and which must not be learnt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .common.data.datalist import Case, Datalist
from .common.data.selection import strip_labels
from .common.errors import InputError
from .common.slices.cohort import PresenceCohort
from .prior.location import Location, read_locations


class WeakCohort(PresenceCohort):
    """Read a data set for learning from presence bits; no mask of a training case is ever opened.

    Attributes, besides those of `PresenceCohort`:
        locations: value -> typical box and volume, where the datalist has them.
        reject: ids of the cases whose pseudo label must not be learnt from.

    Raises:
        InputError: everything that is wrong with the data set, one line a problem.
    """

    locations: dict[int, Location]
    reject: list[str]

    @property
    def whole_cases(self) -> list[Case]:
        return strip_labels(case for case in self.cases if case["case"] not in self.reject)

    def kinds(self) -> list[list[Case]]:
        rejected = [case for case in self.cases if case["case"] in self.reject]
        return [[case for case in self.cases if case not in rejected], rejected]

    def describe_labels(self, labelled: Sequence[Case]) -> str:
        return f"no label of a training case; presence bits of {len(self.slice_labels)}: {self.describe_share()}"

    def read_further(self, content: Datalist, name: str) -> None:
        self.locations = read_locations(content.other, self.labels, name)
        self.reject = self._read_reject(content.other.get("reject"), name)

    def _read_reject(self, given: Any, name: str) -> list[str]:
        if given is None:
            return []
        if not isinstance(given, list):
            raise InputError(f"{name}: reject is {given!r}; wanted a list of training cases")
        known = {case["case"] for case in self.cases}
        given = [str(case) for case in given]
        problems = [f"{name}: reject has {case}; wanted a training case" for case in given if case not in known]
        if not problems and len(set(given)) == len(known):
            problems = [f"{name}: reject has all {len(known)} training cases; wanted one or more to learn from"]
        if problems:
            raise InputError(problems)
        return given
