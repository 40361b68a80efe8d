from __future__ import annotations

import torch

from common.levels.regions import find_regions, merge_all, merge_boxes, scale_box


def probabilities(*boxes: tuple[slice, ...], size=(20, 20, 20)) -> torch.Tensor:
    there = torch.zeros(size)
    for box in boxes:
        there[box] = 1.0
    return torch.stack([1 - there, there])


def cube(start: int, stop: int) -> tuple[slice, ...]:
    return (slice(start, stop),) * 3


def test_a_box_around_each_structure_with_its_margin_cut_at_the_border():
    found = find_regions(probabilities(cube(0, 4), cube(12, 16)), margin=(1.0, 2.0, 0.5))
    assert sorted(found, key=str) == sorted(
        [(slice(0, 5), slice(0, 6), slice(0, 5)), (slice(11, 17), slice(10, 18), slice(11, 17))], key=str
    )


def test_nothing_is_found_where_nothing_is():
    assert find_regions(probabilities(), (1.0, 1.0, 1.0)) == []


def test_a_place_with_hardly_any_of_what_was_found_is_no_region():
    found = find_regions(probabilities(cube(2, 10), cube(17, 18)), (0.0, 0.0, 0.0))
    assert found == [cube(2, 10)]


def test_boxes_that_overlap_become_one_and_all_can():
    assert merge_boxes([cube(0, 4), cube(3, 8), cube(10, 12)]) == [cube(0, 8), cube(10, 12)]
    assert merge_boxes([cube(0, 2), cube(6, 8), cube(1, 7)]) == [cube(0, 8)]
    assert merge_all([cube(0, 2), cube(6, 8)]) == cube(0, 8)


def test_a_box_on_finer_voxels_covers_it_and_has_the_least_size_within_the_image():
    found = scale_box(cube(2, 4), (4.0,) * 3, (0.0,) * 3, (40,) * 3, (1,) * 3)
    assert all(s.start <= 6 and s.stop >= 14 for s in found)  # from 1.5 to 3.5 coarse voxels
    at_border = scale_box(cube(0, 1), (4.0,) * 3, (-8.0,) * 3, (40,) * 3, (16,) * 3)
    assert at_border == cube(0, 16)
    beyond = scale_box(cube(9, 10), (4.0,) * 3, (8.0,) * 3, (40,) * 3, (16,) * 3)
    assert beyond == cube(24, 40)
    small = scale_box(cube(0, 1), (4.0,) * 3, (0.0,) * 3, (10,) * 3, (16,) * 3)
    assert small == cube(0, 10)
