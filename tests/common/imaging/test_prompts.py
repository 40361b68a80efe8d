from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from common.imaging.morphology import main_components
from common.imaging.prompts import (
    bounding_boxes,
    component_boxes,
    confident_points,
    error_click,
    fill_gaps,
    inside_distance,
    jitter_boxes,
    mask_logits,
    negative_points,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs() -> torch.Tensor:
    """A slice of 20 x 12 with components of 24, 6 and 2 voxels."""
    mask = torch.zeros(20, 12, dtype=torch.bool)
    mask[2:8, 1:5] = True
    mask[12:14, 7:10] = True
    mask[18, 1:3] = True
    return mask


def test_components_from_a_share_of_the_largest_on() -> None:
    components = main_components(blobs(), share=0.2)
    assert [int(c.sum()) for c in components] == [24, 6]
    assert main_components(blobs(), share=0.0).shape == (3, 20, 12)
    assert main_components(blobs(), share=0.0, min_voxels=3).shape[0] == 2
    assert main_components(blobs(), share=1.0).shape[0] == 1


def test_components_of_nothing_and_of_volumes() -> None:
    assert main_components(torch.zeros(5, 4, dtype=torch.bool)).shape == (0, 5, 4)
    volume = torch.zeros(6, 6, 6, dtype=torch.bool)
    volume[:3, :3, :3] = True
    volume[5, 5, 5] = True
    assert main_components(volume).sum() == 27


def test_boxes_are_the_edges_of_components() -> None:
    boxes = component_boxes(blobs(), padding=0.0, min_size=1.0)
    assert boxes.tolist() == [[2, 1, 8, 5], [12, 7, 14, 10]]


def test_boxes_are_padded_grown_to_a_least_side_and_kept_inside() -> None:
    mask = torch.zeros(1, 10, 8, dtype=torch.bool)
    mask[0, 0:10, 2:6] = True
    assert bounding_boxes(mask, padding=0.25).tolist() == [[0, 1, 10, 7]]
    dot = torch.zeros(1, 10, 8, dtype=torch.bool)
    dot[0, 4, 7] = True
    assert bounding_boxes(dot, min_size=3.0).tolist() == [[3, 6, 6, 8]]
    assert component_boxes(torch.zeros(4, 4, dtype=torch.bool)).shape == (0, 4)


def test_jitter_moves_edges_by_a_share_of_the_side() -> None:
    boxes = torch.tensor([[10.0, 20.0, 30.0, 60.0], [0.0, 0.0, 5.0, 5.0]])
    copies = jitter_boxes(boxes, 200, (40, 64), seeded())
    assert copies.shape == (200, 2, 4) and copies[0].equal(boxes)
    moved = (copies[1:, 0] - boxes[0]).abs() / torch.tensor([20.0, 40.0, 20.0, 40.0])
    assert moved.max() <= 0.15 + 1e-6 and moved.amax(0).min() > 0.13
    assert copies.min() >= 0 and (copies[..., 2:] > copies[..., :2]).all()
    assert copies.equal(jitter_boxes(boxes, 200, (40, 64), seeded()))
    assert not copies.equal(jitter_boxes(boxes, 200, (40, 64), seeded(1)))
    assert jitter_boxes(boxes, 5, (40, 64), seeded(), amount=0.0).eq(boxes).all()
    assert jitter_boxes(boxes[:0], 3, (40, 64), seeded()).shape == (3, 0, 4)


def test_confident_points_lie_deep_in_the_confident_region() -> None:
    q = torch.full((20, 14), 0.1)
    q[2:11, 2:11] = 0.95
    q[12:20, 0:14] = 0.6  # larger, but not confident
    assert confident_points(q).tolist() == [[6.5, 6.5]]
    spread = confident_points(q, count=3)
    assert torch.cdist(spread, spread)[0, 1:].min() > 2
    drawn = torch.cat([confident_points(q, generator=seeded(i)) for i in range(30)])
    assert drawn.min() > 3 and drawn.max() < 10 and len(drawn.unique(dim=0)) > 5


def test_points_without_confidence_and_without_structure() -> None:
    q = torch.full((9, 9), 0.1)
    q[3:6, 3:6] = 0.6
    assert confident_points(q).tolist() == [[4.5, 4.5]]
    assert confident_points(torch.zeros(9, 9)).shape == (0, 2)
    assert negative_points(torch.zeros(9, 9)).shape == (0, 2)


def test_negative_points_are_background_near_the_structure() -> None:
    q = torch.zeros(40, 40)
    q[15:25, 15:25] = 1.0
    points = negative_points(q, count=4)
    assert points.shape == (4, 2)
    rows, columns = points.long().unbind(1)
    assert q[rows, columns].eq(0).all()
    assert points.min() >= 10 and points.max() <= 30


def test_mask_prompts_are_logits() -> None:
    logits = mask_logits(torch.tensor([0.0, 0.5, 0.8, 1.0]))
    limit = math.log(0.999 / 0.001)
    torch.testing.assert_close(logits, torch.tensor([-limit, 0.0, math.log(4), limit]), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_gaps_take_the_neighbours_boxes(axis) -> None:
    q = torch.zeros(10, 8, 6)  # slices along the last axis
    q[2:4, 2:4, 1] = 0.9
    q[5:8, 3:6, 4] = 0.8
    q[0, 0, 3] = 0.4  # not the structure
    filled = fill_gaps(q.movedim(-1, axis), axis).movedim(axis, -1)
    for place in (2, 3):
        assert bounding_boxes((filled[..., place] > 0.5)[None]).tolist() == [[2, 2, 8, 6]]
    assert filled[..., [0, 1, 4, 5]].equal(q[..., [0, 1, 4, 5]])
    assert fill_gaps(q, max_gap=1).equal(q)
    assert fill_gaps(torch.zeros(3, 3, 3)).eq(0).all()


def test_inside_distance_is_the_exact_one_with_the_outside_around() -> None:
    region = np.random.default_rng(0).random((9, 8, 7)) < 0.8
    wanted = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1, 1:-1]
    np.testing.assert_allclose(inside_distance(region), wanted, rtol=1e-6)
    part = np.zeros((12, 12, 12), bool)
    part[2:11, 3:8, 0:5] = region[:9, :5, :5]
    wanted = ndimage.distance_transform_edt(np.pad(part, 1))[1:-1, 1:-1, 1:-1]
    np.testing.assert_allclose(inside_distance(part), wanted, rtol=1e-6)
    assert inside_distance(np.zeros((3, 3), bool)).max() == 0
    assert inside_distance(np.ones((3, 3), bool)).max() == 2


def cube(start: int, stop: int, size: int = 16) -> torch.Tensor:
    mask = torch.zeros(size, size, size, dtype=torch.bool)
    mask[start:stop, start:stop, start:stop] = True
    return mask


def test_deep_clicks_go_into_the_deeper_region_with_the_right_label() -> None:
    target, state = cube(1, 8), torch.zeros(16, 16, 16)
    state[10:13, 10:13, 10:13] = 0.9  # false, but shallower
    for seed in range(20):
        voxel, label = error_click(target, state, seeded(seed), deep=True)
        assert label == 1 and bool(target[voxel]) and state[voxel] == 0
        assert min(min(v - 0, 8 - v) for v in voxel) > 2  # deeper than half of 4
    state[8:16, 8:16, 8:16] = 0.9
    state[target] = 1.0
    for seed in range(20):
        voxel, label = error_click(target, state, seeded(seed), deep=True)
        assert label == 0 and not bool(target[voxel]) and state[voxel] > 0.5


def test_later_clicks_are_uniform_over_all_wrong_voxels() -> None:
    target, state = cube(1, 5), torch.zeros(16, 16, 16)
    state[8:12, 8:12, 8:12] = 0.9  # as many false ones as missed ones
    labels, voxels = [], set()
    generator = seeded()
    for _ in range(300):
        voxel, label = error_click(target, state, generator, deep=False)
        assert bool(target[voxel]) == bool(label)
        assert bool(target[voxel]) != bool(state[voxel] > 0.5)
        labels.append(label)
        voxels.add(voxel)
    assert 0.4 < sum(labels) / len(labels) < 0.6
    assert len(voxels) > 100


def test_nothing_wrong_and_nothing_wanted_do_not_raise() -> None:
    target = cube(3, 6)
    for deep in (True, False):
        voxel, label = error_click(target, target.float(), seeded(), deep)
        assert label == 1 and bool(target[voxel])
        assert error_click(torch.zeros_like(target), torch.ones(16, 16, 16), seeded(), deep) is None


def test_clicks_follow_their_generator() -> None:
    target, state = cube(2, 12), torch.zeros(16, 16, 16)
    clicks = [error_click(target, state, seeded(seed), True) for seed in (0, 0, 1)]
    assert clicks[0] == clicks[1] != clicks[2]
