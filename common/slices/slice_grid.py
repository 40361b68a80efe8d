"""The grid of a 2D network's slices: the common one, but finer within them, and between them for a second level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..grid.grid import Grid

BLOCK = 8  # pixels, by which a 2D network makes a slice coarser
WORTH = 1.2  # times as many pixels, from which on other slices than the grid's are worth their memory


def slice_grid(grid: Grid, native: Sequence[float], slice_axis: int, pixels: int) -> Grid:
    """Return a grid of the same extent, with more pixels along both axes of a slice, where the scans have them.

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
    finer = min(grid.pixdim[axis] / native[axis] for axis in plane)
    times = min(finer, pixels / max(grid.spatial_size[axis] for axis in plane))
    size = list(grid.spatial_size)
    for axis in plane if times >= WORTH else ():
        size[axis] = round(size[axis] * times / BLOCK) * BLOCK
    if grid.fine is not None:
        size[slice_axis] *= max(1, round(grid.pixdim[slice_axis] / grid.fine.pixdim[slice_axis]))
    pixdim = (round(p * n / m, 4) for p, n, m in zip(grid.pixdim, grid.spatial_size, size, strict=True))
    return replace(grid, spatial_size=tuple(size), pixdim=tuple(pixdim), strides=None, fine=None)
