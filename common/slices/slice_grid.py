"""The grid of a 2D network's slices: the common one, but finer within them, and between them for a second level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..grid.grid import Grid

NATIVE = 0.95  # times the scans' own spacing, below which a slice holds nothing more


def slice_grid(grid: Grid, native: Sequence[float], slice_axis: int, pixels: int) -> Grid:
    """Return a grid of the same extent, with a whole number of times as many pixels along both axes of a slice.

    A SAM sees what the scan has that way, where a 3D network can't: slices of 7 mm pixels are none that it has learnt
    from. It has as many pixels as fit the largest side, and isn't finer than the scans. Slices are those of the grid,
    or, where that has a second level, as many times more as come nearest to its spacing: it learns from them.

    Args:
        grid: of the volumes.
        native: spacing of the scans along the RAS axes, mm.
        slice_axis: 0, 1 or 2.
        pixels: of the largest side of a slice, at most; the grid's own where that has more.
    """
    plane = [axis for axis in range(3) if axis != slice_axis]
    room = pixels // max(grid.spatial_size[axis] for axis in plane)
    finer = min(int(grid.pixdim[axis] / (NATIVE * native[axis])) for axis in plane)
    between = 1 if grid.fine is None else round(grid.pixdim[slice_axis] / grid.fine.pixdim[slice_axis])
    times = [max(1, min(room, finer) if axis in plane else between) for axis in range(3)]
    return replace(
        grid,
        spatial_size=tuple(n * t for n, t in zip(grid.spatial_size, times, strict=True)),
        pixdim=tuple(round(p / t, 4) for p, t in zip(grid.pixdim, times, strict=True)),
        strides=None,
        fine=None,
    )
