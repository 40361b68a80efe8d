"""Fully labelled volumes and unlabelled ones; along which axis, and how fine, a SAM sees their slices."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from .common.cohorts.few_labels import FewLabelCohort
from .common.data.presence import AXES
from .common.errors import InputError
from .common.grid.grid import Grid
from .common.launch.words import number
from .common.slices.slice_grid import slice_grid

AUTO = "auto"
THICK = 1.5  # times as coarse as the other axes, from which on slices are cut across the thick one


class SlicedCohort(FewLabelCohort):
    """`FewLabelCohort` whose volumes are also seen slice by slice.

    Args:
        dataset_dir, datalist: see `FewLabelCohort`.
        slices: "axial", "coronal" or "sagittal"; "auto": across the axis of thick slices, axial where there is none.
        slice_pixels: of the largest side of a slice, at most, see `slice_grid`.
        options: of `FewLabelCohort`.

    Raises:
        InputError: see `FewLabelCohort`; another word for the slices.
    """

    def __init__(
        self,
        dataset_dir: str | None,
        datalist: Any = "dataset.json",
        slices: str = AUTO,
        slice_pixels: int = 192,
        **options: Any,
    ) -> None:
        if slices not in (*AXES, AUTO):
            raise InputError(f"slices is {slices!r}; wanted one of {', '.join((*AXES, AUTO))}")
        self.slices, self.slice_pixels = slices, int(number("slice_pixels", slice_pixels, whole=True, least=1))
        super().__init__(dataset_dir, datalist, **options)

    @cached_property
    def slice_axis(self) -> int:
        """Axis of the RAS grid that the slices are counted along."""
        if self.slices != AUTO:
            return AXES.index(self.slices)
        pixdim = self.grid.finest.pixdim
        thickest = max(range(3), key=lambda axis: pixdim[axis])
        others = min(p for axis, p in enumerate(pixdim) if axis != thickest)
        return thickest if pixdim[thickest] > THICK * others else 2

    @cached_property
    def slice_grid(self) -> Grid:
        """What the SAM sees: the common grid, or, where that has a second level, one as fine as that."""
        return slice_grid(self.grid, self.slice_axis, self.slice_pixels)

    @property
    def settings(self) -> dict[str, Any]:
        return {**super().settings, "slices": self.slices, "slice_pixels": self.slice_pixels}
