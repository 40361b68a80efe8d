"""Volumes of which every slice says what is on it: who is who, along which axis, on which grid."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from ..cohorts.cohort import Cohort
from ..data.datalist import Datalist
from ..data.presence import AXES, SliceLabels, foreground_values, ras_axes, read_slice_labels
from ..data.selection import weakly_labeled
from ..errors import InputError
from ..volumes.read import read_geometry


class PresenceCohort(Cohort):
    """Read a data set whose training cases have `slice_labels`; no mask of one is opened here.

    Args:
        dataset_dir, datalist, spatial_size, pixdim, max_voxels, divisor: see `Cohort`.

    Attributes, besides those of `Cohort`:
        cases: the training cases: case, image and slice_labels.
        labels: value -> name, background included; P foreground labels, sorted by value.
    """

    with_slice_labels = True

    def __init__(self, dataset_dir: str | None, datalist: str | Datalist = "dataset.json", **grid: Any) -> None:
        super().__init__(dataset_dir, datalist, **grid)
        self.cases = weakly_labeled(self.content)
        self.read_further(self.content, self.content.name if isinstance(datalist, Datalist) else datalist)

    def read_further(self, content: Datalist, name: str) -> None:
        """Read what a kind of cohort wants of the datalist besides, before any image is opened; `name` is its file."""

    def check_further(self) -> None:
        _ = self.slice_axis, self.positive_share

    @cached_property
    def slice_labels(self) -> dict[str, SliceLabels]:
        """Case -> its bits on the slices as stored."""
        return self.or_problems(
            lambda: {
                case["case"]: read_slice_labels(
                    case["slice_labels"], read_geometry(case["image"])[0], self.labels, case["case"]
                )
                for case in self.cases
            }
        )

    @cached_property
    def slice_axis(self) -> int:
        """Axis of the RAS grid along which the slices count: 0 sagittal, 1 coronal, 2 axial; one for all cases."""
        cut: dict[int, list[str]] = {}
        for case in self.cases:
            affine = read_geometry(case["image"])[1]
            cut.setdefault(ras_axes(affine)[self.slice_labels[case["case"]].axis], []).append(case["case"])
        if len(cut) > 1:
            raise InputError(
                f"slice_labels of {len(ids)} cases ({', '.join(ids[:3])}{', ...' if len(ids) > 3 else ''}) count "
                f"{AXES[axis]} slices; wanted one axis for all cases"
                for axis, ids in sorted(cut.items())
            )
        return next(iter(cut))

    @cached_property
    def positive_share(self) -> dict[int, float]:
        """Value -> share of all training slices on which the label is present. Near 1 bits say nothing."""
        bits = np.concatenate([found.bits for found in self.slice_labels.values()], axis=1)  # [P, slices of all cases]
        share = dict(zip(foreground_values(self.labels), bits.mean(1).tolist(), strict=True))
        empty = [f"label {value} ({self.labels[value]})" for value, part in share.items() if part == 0]
        if empty:
            raise InputError(f"{text} is on no slice of any training case; wanted it on some" for text in empty)
        return share

    def describe_share(self) -> str:
        """Return one line on how much the bits say, such as `liver 52 %, spleen 40 % of the axial slices are
        positive`."""
        parts = (f"{self.labels[value]} {100 * share:.0f} %" for value, share in self.positive_share.items())
        return f"{', '.join(parts)} of the {AXES[self.slice_axis]} slices are positive"
