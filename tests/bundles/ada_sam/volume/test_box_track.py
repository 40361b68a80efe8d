"""Boxes along the slices."""

from __future__ import annotations

import pytest
import torch

from support.bundle.path import import_bundle

track = import_bundle("ada_sam", "volume.box_track")
InputError = import_bundle("ada_sam", "common.errors").InputError


def boxes_of(*starts: float) -> torch.Tensor:
    """Boxes [1, n, 4] of side 4 at a diagonal."""
    return torch.tensor([[[s, s, s + 4, s + 4] for s in starts]], dtype=torch.float32)


def test_a_jump_of_one_slice_goes_and_a_drift_stays():
    boxes, found = boxes_of(1, 2, 30, 4, 5), torch.ones(1, 5, dtype=torch.bool)
    smooth = track.median_boxes(boxes, found, 3)
    assert smooth[0, :, 0].tolist() == [1.5, 2, 4, 5, 4.5]
    drift = boxes_of(1, 2, 3, 4, 5)
    assert track.median_boxes(drift, found, 3)[0, 1:4].equal(drift[0, 1:4])
    assert boxes[0, 2, 0] == 30  # its argument is left alone


def test_boxes_that_were_not_found_neither_count_nor_stay():
    boxes = boxes_of(99, 2, 99, 99, 5, 99)
    found = torch.tensor([[False, True, False, False, True, False]])
    assert track.median_boxes(boxes, found, 1)[0, :, 0].tolist() == [2, 2, 2, 5, 5, 5]
    assert track.median_boxes(boxes, torch.zeros_like(found), 3).equal(boxes)


def test_classes_are_apart():
    boxes = torch.cat([boxes_of(1, 1, 1), boxes_of(9, 9, 9)])
    assert track.median_boxes(boxes, torch.ones(2, 3, dtype=torch.bool), 5).equal(boxes)


@pytest.mark.parametrize("width", [0, 2, -1])
def test_widths_that_cannot_be(width):
    with pytest.raises(InputError, match="wanted an odd number"):
        track.median_boxes(boxes_of(1), torch.ones(1, 1, dtype=torch.bool), width)


def test_growing_stays_inside_the_slice():
    grown = track.grow_boxes(torch.tensor([[1.0, 3.0, 6.0, 9.0]]), 2, (7, 20))
    assert grown.tolist() == [[0, 1, 7, 11]]


def test_union_and_overlap():
    first, second = torch.tensor([0.0, 0.0, 4.0, 4.0]), torch.tensor([2.0, 2.0, 6.0, 6.0])
    assert track.unite_boxes(first, second).tolist() == [0, 0, 6, 6]
    assert float(track.overlap_boxes(first, second)) == pytest.approx(4 / 28)
    assert float(track.overlap_boxes(first, first)) == 1
    assert float(track.overlap_boxes(first, first + 10)) == 0
