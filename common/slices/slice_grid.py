"""The grid of a 2D network's slices: the common one, or, where that has a second level, one as fine as that."""

from __future__ import annotations

from dataclasses import replace
from math import prod, sqrt

from ..grid.grid import Grid

BLOCK = 8  # pixels, by which a 2D network makes a slice coarser
MOST = 50_000_000  # voxels of all classes; a pseudo label is about five maps of them at once, in float32


def slice_grid(grid: Grid, slice_axis: int, pixels: int) -> Grid:
    """Return a grid of the same extent, as fine as the second level of the given one, or, without one, the same voxels.

    On slices of 7 mm pixels a SAM knows little of abdominal organs (CHAOS MR .69, on 1.7 mm .86); where the common grid
    is fine enough, finer slices are worse (left atrium .82 on 2 mm, .78 on .8 mm; docs/few_slices.md).

    Where that would be more than `MOST` voxels of all classes, slices are as fine as they can be, and then as near to
    one another: memory doesn't grow with scans or structures.

    Args:
        grid: of the volumes.
        slice_axis: 0, 1 or 2.
        pixels: of the largest side of a slice, at most; the grid's own where that has more.
    """
    if grid.fine is None:
        return replace(grid, strides=None)
    plane = [axis for axis in range(3) if axis != slice_axis]
    most = MOST / len(grid.label_values)
    room = max(1.0, min(pixels / max(grid.spatial_size[axis] for axis in plane), sqrt(most / prod(grid.spatial_size))))
    times = [max(1.0, coarse / fine) for coarse, fine in zip(grid.pixdim, grid.fine.pixdim, strict=True)]
    size = list(grid.spatial_size)
    for axis in plane:
        if min(times[axis], room) > 1:
            size[axis] = max(size[axis], round(size[axis] * min(times[axis], room) / BLOCK) * BLOCK)
    size[slice_axis] *= max(1, min(round(times[slice_axis]), int(most / prod(size))))
    pixdim = (round(p * n / m, 4) for p, n, m in zip(grid.pixdim, grid.spatial_size, size, strict=True))
    return replace(grid, spatial_size=tuple(size), pixdim=tuple(pixdim), strides=None, fine=None)
