"""Volumes, areas and flags."""

from __future__ import annotations

import pytest
import torch

from support.ada_sam.structures import LABELS, structures
from support.bundle.path import import_bundle

quality = import_bundle("ada_sam", "volume.quality")
bounding_boxes = import_bundle("ada_sam", "common.imaging.prompts").bounding_boxes


def given(found: torch.Tensor, slice_axis: int = 2):
    """Boxes and gate that fit the masks."""
    slices = found.movedim(slice_axis + 1, 1)
    gate = slices.flatten(2).any(2)
    boxes = torch.zeros(*gate.shape, 4)
    boxes[gate] = bounding_boxes(slices[gate], 0.05)
    return boxes, gate


def flags(found, boxes=None, gate=None, runs=(1, 1), slice_axis=2):
    fitting = given(found, slice_axis)
    boxes, gate = (own if one is None else one for one, own in zip((boxes, gate), fitting, strict=True))
    return quality.check(found, boxes, gate, runs, LABELS, slice_axis)


@pytest.mark.parametrize("slice_axis", [0, 1, 2])
def test_volume_and_area_of_a_block(slice_axis):
    found = torch.zeros(2, 6, 5, 4, dtype=torch.bool)
    found[0, 1:4, 1:3, 1:3] = True  # 3 x 2 x 2 voxels
    measured = quality.measure(found, [1, 4], (1.0, 2.0, 5.0), slice_axis)
    assert measured["volume_ml"] == {"1": pytest.approx(0.12), "4": 0.0}
    areas = {0: [0, 40, 40, 40, 0, 0], 1: [0, 30, 30, 0, 0], 2: [0, 12, 12, 0]}[slice_axis]
    assert measured["area_mm2"]["1"] == pytest.approx(areas)
    thickness = (1.0, 2.0, 5.0)[slice_axis]
    assert sum(areas) * thickness / 1000 == pytest.approx(measured["volume_ml"]["1"])


def test_sound_structures_have_no_flag():
    judged = flags(structures())
    assert judged["flags"] == {"1": [], "4": []}
    assert judged["neighbour_dice"] == {"1": 1.0, "4": 1.0} and judged["runs"] == {"1": 1, "4": 1}
    assert judged["box_overlap"]["1"] > 0.7


def test_a_mask_that_is_not_where_the_map_is():
    found = structures()
    boxes, gate = given(found)
    boxes[0] += 4
    judged = flags(found, boxes, gate)
    assert judged["flags"] == {"1": ["box"], "4": []}
    assert judged["box_overlap"]["1"] < 0.5


def test_a_jump_is_named_by_its_slice_and_the_tapering_ends_are_none():
    found = structures()
    found[0, ..., 5] = found[0, ..., 5].roll(6, 0)
    judged = flags(found)
    assert judged["flags"]["1"] == ["jump"] and judged["jumps"]["1"] == [5, 6]
    end = structures()
    end[0, ..., 7] = False
    end[0, 5, 4, 7] = True  # one voxel
    assert flags(end)["flags"]["1"] == []


def test_broken_runs_of_presence_or_mask():
    found = structures()
    assert flags(found, runs=(3, 1))["flags"]["1"] == ["run"]
    assert flags(found, runs=(3, 1))["runs"]["1"] == 3
    found[1, ..., 6] = False
    judged = flags(found)
    assert judged["flags"]["4"] == ["run"] and judged["runs"]["4"] == 2


def test_nothing_found():
    found = structures()
    found[1] = False
    judged = flags(found, runs=(1, 0))
    assert judged["flags"]["4"] == ["missing"]
    assert judged["box_overlap"]["4"] is None and judged["neighbour_dice"]["4"] is None


def test_runs_are_counted():
    assert [quality.count_runs(torch.tensor(row).bool()) for row in ([0, 0], [1, 1], [1, 0, 1], [0, 1, 0, 1, 1])] == [
        0,
        1,
        2,
        2,
    ]
