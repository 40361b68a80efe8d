"""Where slices lie, by numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from common.volumes.dicom.slice_stack import MOST_SLICES, SliceStack, stack_slices
from common.volumes.volume import Unreadable

TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def stack(heights, beside=0.0, thickness=np.nan, direction=None, spacing=(1.5, 2.0)) -> SliceStack:
    """Stack slices at heights along the normal, shifted by mm along a row of pixels."""
    direction = np.eye(3) if direction is None else direction
    local = np.zeros((len(heights), 3))
    local[:, 0], local[:, 2] = beside, heights
    names = [f"{index}.dcm" for index in range(len(heights))]
    thickness = np.broadcast_to(np.asarray(thickness, dtype=float), len(heights))
    return stack_slices(local @ direction.T + [5.0, -7.0, 11.0], direction, np.array(spacing), thickness, names)


def refused(*args, **options) -> str:
    with pytest.raises(Unreadable) as caught:
        stack(*args, **options)
    assert "\n" not in str(caught.value) and "; wanted " in str(caught.value)
    return str(caught.value)


def where(found: SliceStack) -> np.ndarray:
    """The heights that the grid gives the slices, in their order, for slices without direction."""
    ends = np.stack(
        [np.zeros(len(found.places)), np.zeros(len(found.places)), found.places, np.ones(len(found.places))]
    )
    return (TO_RAS @ found.affine @ ends)[:3].T - [5.0, -7.0, 11.0]


def test_even_slices_in_any_order_and_direction():
    turned, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    turned *= np.sign(np.linalg.det(turned))
    heights = np.array([6.0, 0.0, 9.0, 3.0])
    found = stack(heights, direction=turned)
    assert found.order.tolist() == [1, 3, 0, 2] and found.depth == 4 and found.is_even
    wanted = np.eye(4)
    wanted[:3, :3], wanted[:3, 3] = turned * [1.5, 2.0, 3.0], [5.0, -7.0, 11.0]
    assert np.allclose(found.affine, TO_RAS @ wanted, atol=1e-12)


def test_two_slices_are_even():
    assert stack([0.0, 40.0]).depth == 2


def test_rounded_positions_are_even_and_upright():
    heights = np.round(np.arange(200) * 0.625, 2)
    found = stack(heights, beside=np.resize([0.0, 0.05], 200))
    assert found.is_even and found.affine[0, 2] == 0
    assert np.abs(found.places - np.arange(200)).max() == 0


def test_tilt_shears():
    heights = 3.0 * np.arange(24)
    found = stack(heights, beside=heights * np.tan(np.radians(20)))
    assert found.is_even
    assert np.allclose((TO_RAS @ found.affine)[:3, 2], [3 * np.tan(np.radians(20)), 0, 3])
    assert np.allclose(where(found)[:, 2], heights)


def test_a_shift_that_is_no_tilt_is_refused():
    beside = np.where(np.arange(20) > 9, 4.0, 0.0)
    assert "beside the line" in refused(3.0 * np.arange(20), beside=beside)


@pytest.mark.parametrize("beside", [0.0, 0.2])
def test_uneven_slices_lie_between_those_of_a_grid_with_their_smallest_step(beside):
    heights = np.cumsum([0.0, *[3.0] * 13, *[4.2] * 10])
    found = stack(heights, beside=beside * heights, thickness=3.0)
    assert not found.is_even and found.depth == 28  # 81 mm in steps of 3 mm
    assert np.allclose(where(found), np.stack([beside * heights, 0 * heights, heights], 1), atol=1e-9)
    step = np.linalg.norm(found.affine[:3, 2]) / np.hypot(1, beside)
    assert np.isclose(step, 3.0)
    assert np.abs(found.nearest - found.places).max() <= 0.5
    assert len(np.unique(found.nearest)) == len(heights)  # no two slices share one of the grid


def test_thick_slices_may_lie_far_apart():
    heights, thickness = np.cumsum([0.0, *[5.0] * 8, *[10.0] * 8]), np.repeat([5.0, 10.0], [8, 9])
    assert stack(heights, thickness=thickness).depth == 25
    assert "a gap of 10 mm between 8.dcm and 9.dcm" in refused(heights, thickness=5.0)
    assert "a gap of 10 mm between 8.dcm and 9.dcm" in refused(heights)


def test_one_tiny_step_makes_no_huge_grid():
    assert stack(np.append(np.arange(100.0), 49.1)).depth == MOST_SLICES * 101


@pytest.mark.parametrize("missing", [[1], [10], [22], [5, 6, 7], [4, 12], [9, 11], list(range(5, 20, 2))])
@pytest.mark.parametrize("thickness", [np.nan, 3.0, 6.0])
def test_missing_slices_are_refused(missing, thickness):
    heights = np.delete(3.0 * np.arange(24), missing)
    if thickness == 6.0 and len(missing) > 3:
        return  # every other slice of slices twice as thick as they are apart: they still show all there is
    text = refused(heights, thickness=thickness)
    assert "missing" in text and f"between {missing[0] - 1}.dcm and {missing[0]}.dcm" in text


def test_a_gap_of_no_whole_number_of_slices_is_refused():
    assert "a gap of 7.5 mm between 2.dcm and 3.dcm" in refused(np.cumsum([0, 3, 3, 7.5, 3, 3.0]), thickness=3.0)


@pytest.mark.parametrize("extra", [[30.0], [30.0, 33.0], list(3.0 * np.arange(24)), [30.05]])
def test_a_position_twice_is_refused(extra):
    heights = np.append(3.0 * np.arange(24), extra)
    assert f"{len(extra)} of {24 + len(extra)} slices at the same position" in refused(heights)
    assert "23 of 24 slices at the same position" in refused(np.zeros(24))
