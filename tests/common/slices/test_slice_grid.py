"""Slices have the pixels that the scans have, as far as there is room, and stay where they are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from common.grid.grid import Grid, Level
from common.slices.slice_grid import slice_grid

GRID = Grid((48, 40, 24), (6.0, 5.0, 8.0), (0, 1), strides=((2, 2, 1),), fine=Level((16, 16, 16), (1.0, 1.0, 8.0)))


@pytest.mark.parametrize(
    ("native", "axis", "pixels", "size", "pixdim"),
    [
        ((1.2, 1.0, 8.0), 2, 512, (240, 200, 24), (1.2, 1.0, 8.0)),  # as fine as the scans
        ((1.2, 1.0, 8.0), 2, 192, (192, 160, 24), (1.5, 1.25, 8.0)),  # as many as there is room for
        ((1.2, 1.0, 8.0), 2, 80, (80, 64, 24), (3.6, 3.125, 8.0)),  # in whole blocks
        ((1.2, 2.5, 8.0), 2, 192, (96, 80, 24), (3.0, 2.5, 8.0)),  # no axis is finer than the scans
        ((6.0, 5.0, 1.0), 2, 192, (48, 40, 24), (6.0, 5.0, 8.0)),
        ((1.2, 1.0, 8.0), 2, 56, (48, 40, 24), (6.0, 5.0, 8.0)),  # not for a sixth more
        ((1.2, 1.0, 8.0), 2, 32, (48, 40, 24), (6.0, 5.0, 8.0)),  # never coarser
        ((1.0, 1.0, 2.0), 0, 160, (288, 160, 96), (1.0, 1.25, 2.0)),
    ],
)
def test_slices_are_as_fine_as_scans_and_room_allow(native, axis, pixels, size, pixdim):
    found = slice_grid(GRID, native, axis, pixels)
    assert found.spatial_size == size and found.pixdim == pytest.approx(pixdim)
    assert found.fine is None and found.strides is None and found.label_values == GRID.label_values
    one = slice_grid(replace(GRID, fine=None), native, axis, pixels)  # without a second level slices are the grid's
    assert [one.spatial_size[a] for a in range(3) if a != axis] == [size[a] for a in range(3) if a != axis]
    assert one.spatial_size[axis] == GRID.spatial_size[axis]
