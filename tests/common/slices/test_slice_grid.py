"""Slices are as fine as the second level, as far as there is room, and stay where they are."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from common.grid.grid import Grid, Level
from common.slices.slice_grid import MOST, slice_grid

GRID = Grid((48, 40, 24), (6.0, 5.0, 8.0), (0, 1), strides=((2, 2, 1),))


@pytest.mark.parametrize(
    ("fine", "axis", "pixels", "size", "pixdim"),
    [
        ((1.2, 1.0, 8.0), 2, 512, (240, 200, 24), (1.2, 1.0, 8.0)),  # as fine as the second level
        ((1.2, 1.0, 3.0), 2, 512, (240, 200, 72), (1.2, 1.0, 2.6667)),  # and slices as near to one another
        ((1.2, 1.0, 8.0), 2, 192, (192, 160, 24), (1.5, 1.25, 8.0)),  # as many pixels as there is room for
        ((1.2, 1.0, 8.0), 2, 80, (80, 64, 24), (3.6, 3.125, 8.0)),  # in whole blocks
        ((6.0, 5.0, 8.0), 2, 192, (48, 40, 24), (6.0, 5.0, 8.0)),
        ((1.2, 1.0, 8.0), 2, 32, (48, 40, 24), (6.0, 5.0, 8.0)),  # never coarser
        ((1.0, 1.0, 8.0), 0, 160, (288, 160, 24), (1.0, 1.25, 8.0)),  # a thick axis of a slice stays
    ],
)
def test_slices_are_as_fine_as_the_second_level_and_room_allow(fine, axis, pixels, size, pixdim):
    found = slice_grid(replace(GRID, fine=Level((16, 16, 16), fine)), axis, pixels)
    assert found.spatial_size == size and found.pixdim == pytest.approx(pixdim)
    assert found.fine is None and found.strides is None and found.label_values == GRID.label_values


def test_whole_blocks_make_no_axis_coarser():
    grid = replace(GRID, spatial_size=(48, 10, 24), fine=Level((16, 16, 16), (3.0, 4.5, 8.0)))
    assert slice_grid(grid, 2, 512).spatial_size == (96, 10, 24)


def test_without_a_second_level_slices_are_those_of_the_grid():
    assert slice_grid(GRID, 2, 512) == replace(GRID, strides=None)


@pytest.mark.parametrize(
    ("classes", "size"), [(14, (240, 200, 72)), (21, (240, 200, 48)), (60, (208, 168, 24)), (2000, (48, 40, 24))]
)
def test_many_structures_have_coarser_slices(classes, size):
    grid = replace(GRID, fine=Level((16, 16, 16), (1.2, 1.0, 3.0)), label_values=tuple(range(classes)))
    found = slice_grid(grid, 2, 512).spatial_size
    assert found == size and classes * math.prod(found) <= max(1.1 * MOST, classes * math.prod(GRID.spatial_size))
