"""Slices in space as one grid: regular, oblique to their normal as by a gantry tilt, or unevenly spaced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..volume import Unreadable

NEAR = 0.1  # voxels that a slice may lie beside its place
SAME_PLACE, SAME_SHARE = 0.01, 0.05  # mm; share of the usual step: what is closer than both is one position
WIDE = 1.5  # times the steps around it, or the narrow steps and the slices' thickness, from where on a step is a gap
AROUND = 3  # steps on either side that a step is held against
NARROW = 0.25  # share of the steps that are not wider than what counts as narrow
MOST_SLICES = 4  # times the slices: no grid has more


@dataclass(frozen=True)
class SliceStack:
    """The grid of a stack of slices.

    Args:
        order: [N], the slices from the first on the grid to the last.
        affine: [4, 4], voxel (column, row, slice) to RAS mm; sheared where the slices run obliquely to their normal.
        places: [N], where the slices lie on the grid's third axis, voxels, ascending from 0; whole numbers without a
            hole where their spacing is even.
        depth: of the grid, slices.
    """

    order: np.ndarray
    affine: np.ndarray
    places: np.ndarray
    depth: int

    @property
    def is_even(self) -> bool:
        """Whether each slice of the grid is one of the slices given."""
        return self.depth == len(self.places)

    @property
    def nearest(self) -> np.ndarray:
        """[N], the slice of the grid that each slice given lies nearest to."""
        return np.rint(self.places).astype(int)


def stack_slices(
    positions: np.ndarray,
    direction: np.ndarray,
    pixel_spacing: np.ndarray,
    thickness: np.ndarray,
    names: Sequence[str],
    tell_apart: Callable[[int, int], str] = lambda one, other: "",
) -> SliceStack:
    """Find the grid that parallel slices of one size lie on, each within a tenth of a voxel.

    Slices that are unevenly spaced lie between those of a grid with a step no wider than the smallest of theirs, but of
    four times as many slices at most.

    Args:
        positions: [N, 3] of their first pixels, LPS mm; N is 2 or more.
        direction: [3, 3], columns: along a row of pixels, down a column, and the normal of both, LPS.
        pixel_spacing: [2], from column to column, from row to row, mm.
        thickness: [N], mm; NaN where it is not known.
        names: of the slices, for what is said of them.
        tell_apart: in which two slices, by their numbers, differ but for their position, or nothing.

    Raises:
        Unreadable: two slices at one position; slices beside the line of the others; a gap: a step more than half as
            wide again as the steps on either side of it, or as both the narrow steps and the slices' thickness, so that
            there is tissue that no slice shows.
    """
    heights = positions @ direction[:, 2]
    order = np.argsort(heights, kind="stable")
    positions, heights = positions[order], heights[order]
    steps = np.diff(heights)
    _require_distinct(steps, order, names, tell_apart)
    names = [names[index] for index in order]
    rise, chord = heights[-1] - heights[0], positions[-1] - positions[0]
    upright = _is_upright(positions, direction, pixel_spacing, names)
    places = (heights - heights[0]) * ((len(names) - 1) / rise)
    if np.abs(places - np.arange(len(names))).max() <= NEAR:
        depth, places = len(names), np.arange(len(names), dtype=float)
    else:
        _require_no_gap(steps, thickness[order], names)
        depth = min(int(np.ceil(rise / steps.min() - NEAR)) + 1, MOST_SLICES * len(names))
        places = (heights - heights[0]) * ((depth - 1) / rise)
    step = chord / (depth - 1)
    if upright:  # what the positions are rounded to is no tilt
        step = direction[:, 2] * (np.linalg.norm(chord) / (depth - 1))
    affine = np.eye(4)
    affine[:3, :2], affine[:3, 2], affine[:3, 3] = direction[:, :2] * pixel_spacing, step, positions[0]
    return SliceStack(order, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine, places, depth)


def _require_distinct(
    steps: np.ndarray, order: np.ndarray, names: Sequence[str], tell_apart: Callable[[int, int], str]
) -> None:
    usual = np.median(steps[steps > SAME_PLACE]) if (steps > SAME_PLACE).any() else 0.0
    (same,) = np.nonzero(steps < max(SAME_PLACE, SAME_SHARE * usual))
    if len(same):
        one, other = (int(index) for index in order[same[0] : same[0] + 2])
        difference = tell_apart(one, other)
        raise Unreadable(
            f"{len(same)} of {len(names)} slices at the same position as another ({names[one]} and {names[other]}"
            f"{': ' if difference else ''}{difference}); wanted one slice at each position"
        )


def _is_upright(positions: np.ndarray, direction: np.ndarray, pixel_spacing: np.ndarray, names: Sequence[str]) -> bool:
    """Whether the first pixels run along the normal, and not obliquely from the first to the last."""
    way = positions - positions[0]
    heights = way @ direction[:, 2]
    for upright, run in ((True, direction[:, 2]), (False, way[-1] / heights[-1])):  # for each mm of height
        beside = np.abs((way - heights[:, None] * run) @ direction[:, :2])  # mm
        if (beside / pixel_spacing).max() <= NEAR:
            return upright
    worst = int(beside.max(1).argmax())
    raise Unreadable(
        f"{names[worst]} lies {beside[worst].max():.2f} mm beside the line from the first to the last slice; wanted "
        "slices that are stacked on a straight line"
    )


def _require_no_gap(steps: np.ndarray, thickness: np.ndarray, names: Sequence[str]) -> None:
    before = [np.median(steps[max(i - AROUND, 0) : i]) if i else 0.0 for i in range(len(steps))]
    after = [np.median(steps[i + 1 : i + 1 + AROUND]) if i + 1 < len(steps) else 0.0 for i in range(len(steps))]
    around, narrow = np.maximum(before, after), np.quantile(steps, NARROW)
    thick = np.nan_to_num((thickness[1:] + thickness[:-1]) / 2)
    (found,) = np.nonzero((steps > WIDE * around) | (steps > WIDE * np.maximum(thick, narrow)))
    if len(found):
        first = found[0]
        usual = min(around[first], narrow) if around[first] else narrow
        count = steps[first] / usual - 1
        missing = f", {round(count)} missing" if round(count) > 0 and abs(count - round(count)) <= NEAR else ""
        thick_text = f" and {thick[first]:.4g} mm thick" if thick[first] else ""
        more = f", and {len(found) - 1} more such gap{'s' * (len(found) > 2)}" if len(found) > 1 else ""
        raise Unreadable(
            f"a gap of {steps[first]:.4g} mm between {names[first]} and {names[first + 1]}, where slices are "
            f"{usual:.4g} mm apart{thick_text}{missing}{more}; wanted slices with no gap between them"
        )
