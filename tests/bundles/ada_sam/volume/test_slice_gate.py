"""On which slices a structure is."""

from __future__ import annotations

import torch

from support.bundle.path import import_bundle
from support.networks.tiny_sam import tiny_sam

gate = import_bundle("ada_sam", "volume.slice_gate")
AdaSam = import_bundle("ada_sam", "slice_model.ada_sam").AdaSam


def test_of_two_runs_the_one_that_speaks_loudest_is_kept():
    found = torch.tensor([[1, 1, 0, 1, 1, 1, 0], [1, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0]]).bool()
    even = torch.full((3, 7), 0.8)
    kept, runs = gate.longest_runs(found, even)
    assert kept.int().tolist() == [[0, 0, 0, 1, 1, 1, 0], [1, 0, 0, 0, 0, 0, 0], [0] * 7]
    assert runs.tolist() == [2, 1, 0]
    loud = even.clone()
    loud[0, 3:] = 0.3
    assert gate.longest_runs(found, loud)[0][0].int().tolist() == [1, 1, 0, 0, 0, 0, 0]


def test_gate_bridges_a_doubtful_slice_and_drops_a_far_one():
    probabilities = torch.tensor([[0.1, 0.7, 0.8, 0.35, 0.8, 0.7, 0.1, 0.1, 0.65, 0.1]])
    found, runs = gate.gate_slices(probabilities.logit(), 0.0, (0.3, 0.6), [0])
    assert found.int().tolist() == [[0, 1, 1, 1, 1, 1, 0, 0, 0, 0]] and runs.tolist() == [2]
    both, runs = gate.gate_slices(probabilities.logit(), 0.0, (0.3, 0.6), [])
    assert both.int().tolist() == [[0, 1, 1, 1, 1, 1, 0, 0, 1, 0]] and runs.tolist() == [2]
    # a run that never reaches the upper threshold is none
    assert not gate.gate_slices(torch.full((1, 5), 0.5).logit(), 0.0, (0.3, 0.6), [0])[0].any()


def test_smoothing_along_the_slices_takes_out_a_single_one():
    logits = torch.tensor([[-3.0, -3, -3, 2, -3, -3, -3, 3, 3, 3, 3, 3]])
    found, runs = gate.gate_slices(logits, 1.0, (0.3, 0.6), [])
    assert runs.tolist() == [1] and not found[0, :6].any() and found[0, 7:].all()


def test_maps_are_smoothed_among_their_own_slices_alone():
    maps = torch.zeros(1, 8, 3, 2)
    maps[0, 2:6] = 0.5
    maps[0, 6] = 9.0  # outside the gate
    inside = torch.tensor([[0, 0, 1, 1, 1, 1, 0, 0]]).bool()
    smooth = gate.smooth_between(maps, inside, 0, 1.5)
    assert torch.allclose(smooth[0, 2:6], torch.tensor(0.5)) and not smooth[0, :2].any() and not smooth[0, 6:].any()
    maps[0, 3] = 0.9
    smooth = gate.smooth_between(maps, inside, 0, 1.0)
    assert 0.5 < float(smooth[0, 2, 0, 0]) < float(smooth[0, 3, 0, 0]) < 0.9
    assert gate.smooth_between(maps, inside, 0, 0.0)[0, 2:6].equal(maps[0, 2:6])


def test_gate_lies_along_its_axis():
    assert [gate.on_slices(torch.zeros(2, 5), axis).shape for axis in range(3)] == [
        (2, 5, 1, 1),
        (2, 1, 5, 1),
        (2, 1, 1, 5),
    ]


def test_extents_hold_a_class_to_as_many_slices_as_it_has_elsewhere():
    logits = torch.tensor([[-5.0, -4, -1, -0.5, -1.2, -4, -5, -6]])
    extents = torch.tensor([[3.0, 5.0]])
    assert not gate.gate_slices(logits, 0.0, (0.3, 0.6), [0])[0].any()  # this scan looks unlike the others
    shifted = gate.within_extents(logits, 0.0, extents)
    assert (shifted > 0)[0].int().tolist() == [0, 0, 1, 1, 1, 0, 0, 0]
    assert gate.gate_slices(logits, 0.0, (0.3, 0.6), [0], extents)[0][0, 2:5].all()
    many = gate.within_extents(-logits, 0.0, extents)
    assert int((many > 0).sum()) == 5 and (many > 0)[0, 5:].all()
    for free in ([[0.0, 8.0]], [[0.0, 0.0]], [[1.0, 3.0]]):
        within = torch.tensor([[-5.0, 2, 1, -3]])
        assert torch.equal(gate.within_extents(within, 0.0, torch.tensor(free)), within)
    assert int((gate.within_extents(-torch.ones(1, 4), 0.0, torch.tensor([[9.0, 9.0]])) > 0).sum()) == 4
    assert not (gate.within_extents(torch.tensor([[3.0, 2, 1]]), 0.0, torch.tensor([[0.0, 0.5]])) > 0).any()


def test_extents_are_those_of_the_training_volumes():
    network = AdaSam(tiny_sam(), (14, 12), 2, hidden=8, amp=False)
    bits = [torch.tensor([[0, 1, 1, 0], [0, 0, 0, 0]]).bool(), torch.tensor([[1, 1, 1, 0], [0, 1, 0, 0]]).bool()]
    network.note_extents(bits)
    assert network.extents.tolist() == [[2, 3], [0, 1]]
