"""Volumes with a presence bit for every slice and masks on a few: which slices these are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from .common.data.datalist import Case, Datalist
from .common.data.presence import foreground_values
from .common.data.selection import given_label_slices, labeled_cases, strip_labels
from .common.errors import InputError
from .common.grid.grid import Grid
from .common.grid.ranges import RangeSamples
from .common.launch.words import number, optional_number
from .common.levels.pieces import WHOLE, largest_share
from .common.slices.cohort import PresenceCohort
from .common.slices.masked_slices import draw_label_slices, read_label_slices
from .common.slices.slice_grid import slice_grid
from .common.volumes.read import read_channels, read_geometry

AUTO = "auto"
AUTO_BUDGET = 20
SEEN = 3  # masks that have to show a label, before they tell of its pieces
MOSTLY = 0.75  # share of these on which it is one: two ends of a curved structure may be on one slice


class FewSlicesCohort(PresenceCohort):
    """Read a data set for learning from masks on a few slices and presence bits on all.

    Of the masks of the training cases only the chosen slices are looked at; those of other cases are never opened.

    Args:
        dataset_dir, datalist, spatial_size, pixdim, max_voxels, divisor: see `Cohort`.
        num_label_slices: how many positive slices are drawn from the training cases that have a label (where the
            datalist has `label_slices` for one, from these); None: all `label_slices` of the datalist; "auto": these
            where the datalist has any, else a draw of 20, or of all where there are fewer. Where a label doesn't tell
            about all structures (`known_labels`), a slice can be drawn on which its bits call the others absent: there
            it does.
        draw_from_middle: share of each label's slices, the innermost of a case, that are drawn before the others; 1: of
            all alike.
        seed: of the draw.
        slice_pixels: of the largest side of the slices that SAM sees, at most, see `slice_grid`.

    Attributes, besides those of `PresenceCohort`:
        cases: case, image, slice_labels, and, once they are checked, of those with masks label and label_slices too.
        num_label_slices: as given; "auto" is None or a number here.

    Raises:
        InputError: everything that is wrong with the data set, one line a problem; also a mask that has a label on a
            slice whose bit says that it is absent, as miscounted slices do, or doesn't tell about one that is there.
    """

    def __init__(
        self,
        dataset_dir: str | None,
        datalist: str | Datalist = "dataset.json",
        num_label_slices: int | str | None = AUTO,
        draw_from_middle: float = 1.0,
        seed: int = 0,
        slice_pixels: int = 192,
        **grid: Any,
    ) -> None:
        self.slice_pixels = number("slice_pixels", slice_pixels, whole=True, least=1)
        auto = isinstance(num_label_slices, str) and num_label_slices.strip().lower() == AUTO
        self.num_label_slices: int | str | None = (
            AUTO if auto else optional_number("num_label_slices", num_label_slices, whole=True)
        )
        self.draw_from_middle, self.seed = draw_from_middle, int(seed)
        self._files: dict[str, str] = {}
        self._given: dict[str, list[int]] = {}
        self._known: dict[str, list[int]] = {}
        self._masks_show: dict[int, int] = {}
        self._shares: dict[int, list[float]] = {}
        super().__init__(dataset_dir, datalist, **grid)

    @cached_property
    def label_slices(self) -> dict[str, list[int]]:
        """Case -> indices of its slices with masks as stored, sorted; only cases that have some."""
        return self._given if self.num_label_slices is None else self._draw(self.seed, self.draw_from_middle)

    def check_further(self) -> None:
        super().check_further()
        # only now, so that no mask is opened but on the chosen slices
        self.cases = [self._with_masks(case) for case in self.cases]
        self._masks_show = self._check_masks()

    def sample_labels(self, samples: RangeSamples) -> None:
        for case in self.cases:
            name = case["case"]
            if name not in self.label_slices:
                continue
            axis, indices = self.slice_labels[name].axis, self.label_slices[name]
            grid = read_geometry(case["image"])
            masks = read_label_slices(self._files[name], axis, indices, self.labels, grid, name)
            scan = read_channels(case["image"], len(self.channels))
            samples.add_labelled([channel.array.take(indices, axis) for channel in scan], masks)

    @property
    def one_piece(self) -> list[bool]:
        """Whether each class, background first, is one piece on nearly all slices whose masks show it, three at least.

        Both kidneys under one label are two; so is an aorta on slices through its arch, but on few of all.
        """
        found = [self._shares.get(number, []) for number in range(len(self.labels))]
        return [len(own) >= SEEN and sum(share >= WHOLE for share in own) >= MOSTLY * len(own) for own in found]

    @property
    def whole_cases(self) -> list[Case]:
        return strip_labels(self.cases)

    def masked_case(self, name: str) -> Case:
        """Return a case that has masks, with its `label`, a path, and `slice_labels`."""
        return next(case for case in self.cases if case["case"] == name and "label" in case)

    @property
    def settings(self) -> dict[str, Any]:
        own = {"num_label_slices": self.num_label_slices, "draw_from_middle": self.draw_from_middle, "seed": self.seed}
        return {**super().settings, **own, "slice_pixels": self.slice_pixels}

    def read_further(self, content: Datalist, name: str) -> None:
        labelled = labeled_cases(content)
        self._files = {case["case"]: case["label"] for case in labelled}
        self._known = {case["case"]: case["known_labels"] for case in labelled if "known_labels" in case}
        self._given = given_label_slices(content)
        if self.num_label_slices == AUTO and self._given:
            self.num_label_slices = None
        if self.num_label_slices is None and not self._given:
            raise InputError(
                f"{name}: no training case has label_slices, and num_label_slices is null; wanted one of the two"
            )

    @cached_property
    def slice_grid(self) -> Grid:
        """What SAM and the 2D UNet see: the common grid, or, where that has a second level, one as fine as that."""
        return slice_grid(self.grid, self.slice_axis, self.slice_pixels)

    @property
    def slice_size(self) -> tuple[int, int]:
        """Rows and columns of a slice that SAM sees."""
        rows, columns = (n for axis, n in enumerate(self.slice_grid.spatial_size) if axis != self.slice_axis)
        return rows, columns

    def describe_plan(self) -> list[str]:
        (n, m), (x, y) = (
            [values[axis] for axis in range(3) if axis != self.slice_axis]
            for values in (self.slice_grid.spatial_size, self.slice_grid.pixdim)
        )
        apart = self.slice_grid.pixdim[self.slice_axis]
        seen = f"SAM sees slices of {n} x {m} pixels of {x:.3g} x {y:.3g} mm, one each {apart:.3g} mm"
        return [*super().describe_plan(), seen]

    def kinds(self) -> list[list[Case]]:
        masked = [case for case in self.cases if "label" in case]
        return [masked, [case for case in self.cases if "label" not in case]]

    def keep(self, names: Collection[str]) -> None:
        super().keep(names)
        for name in [name for name in self.label_slices if name not in names]:
            del self.label_slices[name]  # which others hold, too

    def describe_labels(self, labelled: Sequence[Case]) -> str:
        return self.describe()

    @property
    def num_masks(self) -> int:
        """Number of slices whose masks are learnt from."""
        return sum(map(len, self.label_slices.values()))

    def describe(self) -> str:
        """Return one sentence on what is learnt from."""
        names = (f"{self.labels[value]} on {self._masks_show[value]}" for value in foreground_values(self.labels))
        slices = sum(found.bits.shape[1] for found in self.slice_labels.values())
        given = sum(map(len, self._given.values()))
        drawn = f", drawn from the datalist's {given}" if self.num_label_slices is not None and given else ""
        return (
            f"masks on {self.num_masks} slices of {len(self.label_slices)} cases ({', '.join(names)}{drawn}); "
            f"presence bits on all {slices} slices of {len(self.cases)} cases: {self.describe_share()}"
        )

    def _draw(self, seed: int, middle: float) -> dict[str, list[int]]:
        bits = {case: self.slice_labels[case].bits for case in self._files}
        among = dict(self._given)
        for case in self._known:
            untold = self._untold(case)
            away = set(np.flatnonzero(untold.any(0)).tolist())
            among[case] = [index for index in among.get(case, range(untold.shape[1])) if index not in away]
        if self.num_label_slices == AUTO:
            positive = [found[:, among[case]] if case in self._known else found for case, found in bits.items()]
            self.num_label_slices = max(1, min(AUTO_BUDGET, sum(int(found.any(0).sum()) for found in positive)))
        drawn: dict[str, list[int]] = {}
        for case, index in draw_label_slices(bits, self.num_label_slices, int(seed), among, middle):
            drawn.setdefault(case, []).append(index)
        return {case["case"]: sorted(drawn[case["case"]]) for case in self.cases if case["case"] in drawn}

    def _untold(self, case: str) -> np.ndarray:
        """Return the presence bits [P, n] of a case's labels that its mask doesn't tell about; all others are 0."""
        known = self._known.get(case, list(self.labels))
        return self.slice_labels[case].bits & ~np.isin(foreground_values(self.labels), known)[:, None]

    def _with_masks(self, case: Case) -> Case:
        indices = self.label_slices.get(case["case"])
        return case if indices is None else {**case, "label": self._files[case["case"]], "label_slices": indices}

    def _check_masks(self) -> dict[int, int]:
        """Open the chosen slices; return on how many of them each label has voxels."""
        problems: list[str] = []
        shown: Counter[int] = Counter()
        values = foreground_values(self.labels)
        for case in (case for case in self.cases if "label" in case):
            name, indices, found = case["case"], case["label_slices"], self.slice_labels[case["case"]]
            untold = self._untold(name)
            problems += [
                f"{name}: slice_labels have label {values[row]} ({self.labels[values[row]]}) on slice {index}, which "
                "known_labels lacks; wanted label_slices whose masks tell about all that is there"
                for index in indices
                if index < untold.shape[1]
                for row in np.flatnonzero(untold[:, index])
            ]
            grid = read_geometry(case["image"])
            try:
                masks = read_label_slices(case["label"], found.axis, indices, self.labels, grid, name)
            except InputError as error:
                problems += error.problems
                continue
            for index, mask in zip(indices, np.moveaxis(masks, found.axis, 0), strict=True):
                for klass, share in largest_share(torch.from_numpy(np.ascontiguousarray(mask))[None]).items():
                    self._shares.setdefault(klass, []).append(share)
                for row, value in enumerate(values):
                    has = bool((mask == row + 1).any())
                    shown[value] += has
                    if has and not found.bits[row, index]:
                        problems.append(
                            f"{name}: the mask has label {value} ({self.labels[value]}) on slice {index}, which its "
                            "slice_labels call free of it; wanted both to agree"
                        )
        if problems:
            raise InputError(problems)
        lacking = [value for value in values if not shown[value]]
        if lacking and self.num_label_slices is None:
            raise InputError(
                f"label {value} ({self.labels[value]}) is on no slice that has a mask; wanted it on some"
                for value in lacking
            )
        return {value: shown[value] for value in values}
