from __future__ import annotations

import numpy as np
import pytest
from monai.data import MetaTensor
from monai.transforms import Orientation

from common.slices.counted import Counted, count_slice, in_ranges, thick_axis

SIZE = (8, 10, 12)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SLP", "AIR"])
def test_a_slice_of_the_upright_volume_is_found_in_the_file(axes):
    """A voxel of the file holds its number along an axis; turned upright, that number is what is to be said."""
    upright = np.diag([1.0, 2.0, 3.0, 1.0])
    file = Orientation(axes, labels=None)(MetaTensor(np.zeros((1, *SIZE)), affine=upright))
    size = tuple(file.shape[1:])
    for axis in range(3):
        numbers = np.moveaxis(
            np.broadcast_to(np.arange(1, size[axis] + 1), (*np.delete(size, axis), size[axis])), -1, axis
        )
        turned = Orientation("RAS", labels=None)(MetaTensor(numbers[None].copy(), affine=file.affine))
        for along in range(3):
            found = [count_slice(upright, SIZE, along, index, file.affine, size) for index in range(SIZE[along])]
            if found[0].axis == axis:
                assert [one.number for one in found] == np.moveaxis(np.asarray(turned[0]), along, 0)[:, 0, 0].tolist()
                assert {one.of for one in found} == {size[axis]}
    assert {count_slice(upright, SIZE, along, 0, file.affine, size).axis for along in range(3)} == {0, 1, 2}


def test_a_coarser_grid_names_the_slice_in_the_middle_and_beyond_the_file_its_ends():
    grid, file = np.diag([4.0, 4.0, 4.0, 1.0]), np.diag([1.0, 1.0, 1.0, 1.0])
    assert count_slice(grid, (4, 4, 4), 2, 2, file, (16, 16, 16)) == Counted(2, 9, 16)
    assert count_slice(grid, (4, 4, 9), 2, 8, file, (16, 16, 16)).number == 16
    grid[2, 3] = -40
    assert count_slice(grid, (4, 4, 4), 2, 0, file, (16, 16, 16)).number == 1


def test_slices_are_those_of_the_largest_spacing():
    assert [thick_axis(np.diag([*spacing, 1.0])) for spacing in ((1, 1, 3), (4, 1, 1), (1, 2, 2), (1, 1, 1))] == [
        2,
        0,
        2,
        2,
    ]


def test_numbers_as_people_write_them():
    assert in_ranges([5, 3, 6, 7, 12, 13]) == "3, 5 to 7, 12 to 13" and in_ranges([]) == "" and in_ranges([4, 4]) == "4"
