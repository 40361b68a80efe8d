"""Volumes of which every slice says what is on it: who is who, along which axis, on which grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..data.checks import require_sound
from ..data.datalist import Datalist, read_datalist
from ..data.presence import AXES, SliceLabels, foreground_values, ras_axes, read_slice_labels
from ..data.selection import scored_cases, weakly_labeled
from ..data.volumes import read_geometry
from ..errors import InputError
from ..grid.grid import plan_grid


class PresenceCohort:
    """Read and check a data set whose training cases have `slice_labels`; no mask of one is opened here.

    Args:
        dataset_dir: folder with a `dataset.json` in MSD layout.
        datalist: its file name; or what a client has given (`client_datalist`).
        spatial_size, pixdim, max_voxels, divisor: see `plan_grid`.

    Attributes:
        cases: the training cases: case, image and slice_labels.
        scored: cases whose truth may be looked at: the labelled test cases, else the labelled validation cases.
        grid: {"spatial_size", "pixdim", "label_values"} of what is deployed.
        labels: value -> name, background included; P foreground labels, sorted by value.
        slice_axis: axis of the RAS grid along which the slices count: 0 sagittal, 1 coronal, 2 axial.
        slice_labels: case -> its bits on the slices as stored.
        positive_share: value -> share of all training slices on which the label is present. Near 1 bits say nothing.

    Raises:
        InputError: everything that is wrong with the data set, one line a problem.
    """

    def __init__(
        self,
        dataset_dir: str | None,
        datalist: str | Datalist = "dataset.json",
        spatial_size: Sequence[int] | None = None,
        pixdim: Sequence[float] | None = None,
        max_voxels: int = 98304,
        divisor: int = 8,
    ) -> None:
        content = read_datalist(dataset_dir, datalist)
        self.name, self.labels = content.name, content.labels
        # the command line hands over words
        spatial_size = None if spatial_size in ("null", "None") else spatial_size
        pixdim = None if pixdim in ("null", "None") else pixdim
        self.cases = weakly_labeled(content)
        self.scored = scored_cases(content)
        self.read_further(content, content.name if isinstance(datalist, Datalist) else datalist)
        require_sound(
            self.cases, self.scored, label_values=self.labels, dataset_dir=content.directory, slice_labels=True
        )
        self.slice_labels: dict[str, SliceLabels] = {}
        self.slice_axis = self._read_slice_labels()
        self.positive_share = self._measure_share()
        self.grid: dict[str, list] = plan_grid(self.cases, spatial_size, pixdim, max_voxels, divisor, content.grid)
        self.grid["label_values"] = list(self.labels)

    def read_further(self, content: Datalist, name: str) -> None:
        """Read what a kind of cohort wants of the datalist besides, before any image is opened; `name` is its file."""

    def describe_share(self) -> str:
        """Return one line on how much the bits say, such as `liver 52 %, spleen 40 % of the axial slices are
        positive`."""
        parts = (f"{self.labels[value]} {100 * share:.0f} %" for value, share in self.positive_share.items())
        return f"{', '.join(parts)} of the {AXES[self.slice_axis]} slices are positive"

    def _read_slice_labels(self) -> int:
        """Read the bits of all cases; return the one anatomical axis that all of them are cut along."""
        cut: dict[int, list[str]] = {}
        for case in self.cases:
            shape, affine = read_geometry(case["image"])
            found = read_slice_labels(case["slice_labels"], shape, self.labels, case["case"])
            self.slice_labels[case["case"]] = found
            cut.setdefault(ras_axes(affine)[found.axis], []).append(case["case"])
        if len(cut) > 1:
            raise InputError(
                f"slice_labels of {len(ids)} cases ({', '.join(ids[:3])}{', ...' if len(ids) > 3 else ''}) count "
                f"{AXES[axis]} slices; wanted one axis for all cases"
                for axis, ids in sorted(cut.items())
            )
        return next(iter(cut))

    def _measure_share(self) -> dict[int, float]:
        bits = np.concatenate([found.bits for found in self.slice_labels.values()], axis=1)  # [P, slices of all cases]
        share = dict(zip(foreground_values(self.labels), bits.mean(1).tolist(), strict=True))
        empty = [f"label {value} ({self.labels[value]})" for value, part in share.items() if part == 0]
        if empty:
            raise InputError(f"{text} is on no slice of any training case; wanted it on some" for text in empty)
        return share
