"""Who is who in a data set, on which grid: what the cohorts of all bundles have in common."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from ..data.checks import require_sound
from ..data.datalist import Case, Datalist, read_datalist
from ..data.nnunet import channel_kinds, has_hounsfield
from ..data.selection import require_scored, scored_cases, with_labels
from ..errors import InputError
from ..grid.grid import Grid, Range
from ..grid.plan import plan_grid, ras_geometry
from ..grid.plan_summary import describe_clipped, describe_grid, describe_kept, describe_ranges, kept_by_levels
from ..grid.ranges import RangeSamples
from ..launch.words import number, optional, optional_number, per_axis, ranges
from ..volumes.read import count_channels
from ..volumes.volume import Unreadable

T = TypeVar("T")
LOOKED_AT = 2  # labels that are brought to the grid and back before training


class Cohort:
    """Read a data set; what a bundle's own class knows besides is which training cases count as labelled.

    Nothing but the datalist and the headers of images is read until `check`, which a plan calls before its first stage:
    a trainer can be built without opening a label. Where a range of intensities has to be measured, its grid says
    that too, and the files are looked at when it is asked for.

    Args:
        dataset_dir: folder with a `dataset.json` in MSD layout; None where a client has given the cases.
        datalist: its file name; or what a client has given (`client_datalist`).
        spatial_size, pixdim, max_voxels, divisor, strides, levels, fine_pixdim: see `plan_grid`; one number stands for
            all axes.
        intensity_range: of each channel, the values that become 0 and 1, or "percentiles" of each scan; one entry
            stands for all channels. None: for a channel that the datalist calls a CT one range for all scans, which
            `RangeSamples` measures; percentiles for any other.
        randomise: share of training items of random contrast. With any a new model has percentiles where no range is
            given: it is for scans of other modalities, too, whose numbers a CT's range says nothing about.

    Attributes:
        content: the datalist.
        name: of the data set.
        labels: value -> name, background included.
        cases: what is learnt from, in the order of the images; a bundle's own class sets it.
        scored: cases whose truth may be looked at: the labelled test cases, else the labelled validation cases.

    Raises:
        InputError: what is wrong with the datalist or a setting, one line a problem.
    """

    cases: Sequence[Case]
    with_slice_labels = False  # whether every training case has to have bits

    def __init__(
        self,
        dataset_dir: str | None,
        datalist: str | Datalist = "dataset.json",
        spatial_size: Sequence[int] | None = None,
        pixdim: Sequence[float] | None = None,
        max_voxels: int = 98304,
        divisor: int = 8,
        strides: Sequence[Any] | None = None,
        levels: int | None = None,
        fine_pixdim: Sequence[float] | None = None,
        intensity_range: Sequence[Any] | str | None = None,
        randomise: float = 0.0,
    ) -> None:
        self.content = read_datalist(dataset_dir, datalist)
        self.name, self.labels = self.content.name, self.content.labels
        self.scored = scored_cases(self.content)
        self.spatial_size, self.pixdim = per_axis("spatial_size", spatial_size, True), per_axis("pixdim", pixdim)
        self.max_voxels = number("max_voxels", max_voxels, whole=True, least=1)
        self.divisor = number("divisor", divisor, whole=True, least=1)
        self.strides, self.fine_pixdim = optional(strides), per_axis("fine_pixdim", fine_pixdim)
        self.levels = optional_number("levels", levels, whole=True, least=1)
        self.kept: dict[int, dict[int, float]] = {}
        self.intensity_range = ranges("intensity_range", intensity_range)
        self.any_contrast = number("randomise", randomise, least=0) > 0
        self.samples: RangeSamples | None = None
        self._sound = self._checked = False

    @cached_property
    def grid(self) -> Grid:
        """What is deployed sees; planned from headers, or that of a model whose training goes on."""
        return self.or_problems(
            lambda: plan_grid(
                self.cases,
                self.labels,
                self.spatial_size,
                self.pixdim,
                self.max_voxels,
                self.divisor,
                self.strides,
                self.levels,
                self.fine_pixdim,
                self.find_ranges(),
                self.content.grid,
            )
        )

    @cached_property
    def channels(self) -> list[str]:
        """What the channels of a scan are called, as the datalist or all images say it; "" where nothing does.

        Where the datalist names none there are as many as a model has whose training goes on, or the first scan.
        """
        images = [case["image"] for case in self.cases]
        said, model = channel_kinds(self.content.other, images), self.content.grid
        if any(said) or not images:
            return said
        try:
            return [""] * (count_channels(images[0]) if model is None else model.channels)
        except (Unreadable, OSError):  # which is said where the files are looked at
            return said

    def find_ranges(self) -> list[Range | None] | None:
        """Return the range of each channel, as given or as measured; None: that of the model.

        Raises:
            InputError: another number of ranges than channels; when measured, what is wrong with the files.
        """
        given, count = self.intensity_range, len(self.channels)
        if given is not None:
            if len(given) not in (1, count):
                raise InputError(f"intensity_range has {len(given)} entries; wanted {count}, one for each channel")
            return given * count if len(given) == 1 else given
        if self.content.grid is not None:
            return None
        absolute = [has_hounsfield(name) and not self.any_contrast for name in self.channels]
        if any(absolute):
            self.samples = RangeSamples([case["case"] for case in self.cases])
            self._check_files()
            self.sample_labels(self.samples)
        return [self.samples.measure(i) if self.samples and found else None for i, found in enumerate(absolute)]

    def sample_labels(self, samples: RangeSamples) -> None:
        """Add what a regime opens of labels beside the `label` of its cases."""

    def check(self) -> None:
        """Open whatever is learnt from or scored by and look whether it is sound; a second call does nothing.

        Raises:
            InputError: everything that is wrong with the data set, one line a problem.
        """
        if not self._checked:
            self._check_files()
            self.check_further()
            self._checked = True

    @property
    def whole_cases(self) -> list[Case]:
        """What a fine level learns from: case and image, and `label` where all of the mask may be opened."""
        return with_labels(self.cases)

    def describe_plan(self) -> list[str]:
        """Return what the grid means for this data set, a line each, and remember what labels keep on it (`kept`)."""
        lines = [*describe_grid(self.grid, self.cases), self.describe_intensities(), *self.describe_clipping()]
        labels = [case["label"] for case in self.whole_cases if "label" in case]
        self.kept = kept_by_levels(self.grid, labels[:LOOKED_AT])
        return [*lines, *describe_kept(self.kept, self.labels)]

    def describe_intensities(self) -> str:
        """Return a line on which values of a scan become 0 and 1."""
        where = "as given" if self.intensity_range is not None else "as in the model"
        where = where if self.samples is None else self.samples.describe()
        return describe_ranges(self.grid.intensity_range, self.channels, where)

    def describe_clipping(self) -> list[str]:
        """Return a line for each range that was measured: how much of the scans it cuts off."""
        if self.samples is None:
            return []
        ranges = [(i, found) for i, found in enumerate(self.grid.intensity_range) if found is not None]
        shares = [(self.channels[i], self.samples.clipped(i, found)) for i, found in ranges]
        return [describe_clipped(name, *share) for name, share in shares if share is not None]

    def require_scored(self) -> None:
        """Raise an InputError where there is no case to score by."""
        require_scored(self.content)

    def _check_files(self) -> None:
        if self._sound:
            return
        require_sound(
            self.cases,
            self.scored,
            label_values=self.labels,
            dataset_dir=self.content.directory,
            needs_foreground=[case["case"] for case in self.cases if self.needs_foreground(case)],
            slice_labels=self.with_slice_labels,
            samples=self.samples,
            channels=len(self.channels),
        )
        self._sound = True

    def needs_foreground(self, case: Case) -> bool:
        """Whether a case's mask has to show some structure."""
        return False

    def check_further(self) -> None:
        """Look at what only this kind of cohort has; the files themselves are sound by then."""

    def or_problems(self, read: Callable[[], T]) -> T:
        """Return read(), which opens headers; where it fails, say all that is wrong with the data set instead."""
        try:
            return read()
        except Exception:  # a file that can't be read raises as many kinds as there are readers
            self._check_files()
            raise

    def describe_opened(self) -> list[str]:
        """Return in a line or two which files of the data set a run opens, and of which cases the label."""
        labels = [case for case in self.whole_cases if "label" in case]
        return [f"images of {len(self.cases)} training cases", self.describe_labels(labels), self.describe_scored()]

    def describe_labels(self, labelled: Sequence[Case]) -> str:
        """Return which labels of training cases are opened, `labelled` are those of which all of the mask is."""
        return f"labels of {names_of(labelled)}" if labelled else "no label of a training case"

    def describe_scored(self) -> str:
        """Return which cases are scored by their label."""
        return f"image and label of {len(self.scored)} cases to score" if self.scored else "no case to score"

    def kinds(self) -> list[list[Case]]:
        """Return the cases that are learnt from, by what is done with them; those that have a label come first."""
        return [list(self.cases)]

    def narrow(self, few: int, labeled: int, scored: int) -> dict[str, float]:
        """Keep a few cases of each kind, of middle size, where all stand; return for how many each stands, by its id.

        For a dry run, once everything is checked and planned: the grid and whatever was read of all cases stay.

        Args:
            few: of a kind. labeled: of one that has a label, its first ones. scored: of those to score, the largest of
                all among them, for its memory.
        """
        stands_for: dict[str, float] = {}
        kinds = [[case for case in kind] for kind in self.kinds()]
        for kind in filter(None, kinds):
            kept = kind[:labeled] if "label" in kind[0] else middle_sized(kind, few)
            stands_for |= {case["case"]: len(kind) / len(kept) for case in kept}
        self.keep(set(stands_for))
        if self.scored:
            largest = max(self.scored, key=voxels_of)
            kept = [largest, *middle_sized([c for c in self.scored if c is not largest], scored - 1)]
            stands_for |= {case["case"]: len(self.scored) / len(kept) for case in kept}
            self.scored[:] = kept
        return stands_for

    def keep(self, names: Collection[str]) -> None:
        """Leave out all training cases but some, in every list where they stand."""
        for name, cases in vars(self).items():
            if isinstance(cases, list) and name != "scored" and cases and all(_is_case(case) for case in cases):
                cases[:] = [case for case in cases if case["case"] in names]

    @property
    def settings(self) -> dict[str, Any]:
        """What was asked for, for run.json."""
        names = (
            "spatial_size",
            "pixdim",
            "max_voxels",
            "divisor",
            "strides",
            "levels",
            "fine_pixdim",
            "intensity_range",
        )
        return {name: vars(self)[name] for name in (*names, "intensity_range")}


def middle_sized(cases: Sequence[Case], count: int) -> list[Case]:
    """Return some cases, in their order: those whose voxels are nearest to the mean, by which a sum is estimated."""
    voxels = [voxels_of(case) for case in cases]
    nearest = np.argsort(np.abs(np.asarray(voxels) - np.mean(voxels or [0])), kind="stable")[:count]
    return [cases[number] for number in sorted(nearest)]


def voxels_of(case: Case) -> float:
    """Return how many voxels a case's image has, by its header."""
    return float(np.prod(ras_geometry(case["image"])[0]))


def names_of(cases: Sequence[Case], most: int = 3) -> str:
    """Return the first ids of some cases, and how many more there are."""
    more = f" and {len(cases) - most} more" if len(cases) > most else ""
    return ", ".join(case["case"] for case in cases[:most]) + more


def _is_case(entry: Any) -> bool:
    return isinstance(entry, dict) and "case" in entry and "image" in entry
