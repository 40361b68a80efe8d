"""Masks that are handed on from the surest slice outwards."""

from __future__ import annotations

import torch

from support.bundle.path import import_bundle

propagation = import_bundle("ada_sam", "volume.propagation")
N, ROWS, COLUMNS = 7, 12, 10
WHOLE = torch.tensor([0.0, 0.0, ROWS, COLUMNS])


def truth() -> torch.Tensor:
    """A square that drifts by a row a slice, [n, rows, columns]."""
    masks = torch.zeros(N, ROWS, COLUMNS, dtype=torch.bool)
    for z in range(N):
        masks[z, z : z + 5, 3:7] = True
    return masks


class Oracle:
    """Answers with the truth inside the box, as the slices' own answers don't; keeps what it was asked."""

    def __init__(self, masks: torch.Tensor) -> None:
        self.truth, self.calls = masks, []

    def __call__(self, slices, boxes, masks):
        self.calls.append((slices.tolist(), boxes.clone(), None if masks is None else masks.clone()))
        inside = torch.zeros(len(slices), ROWS, COLUMNS, dtype=torch.bool)
        for row, box in enumerate(boxes):
            r0, c0, r1, c1 = (int(x) for x in box.round())
            inside[row, r0:r1, c0:c1] = True
        return torch.where(self.truth[slices] & inside, 6.0, -6.0)


def start(seed: int = 3):
    """Logits of which only the seed's are true; the others are half of the square. Boxes are those of the halves."""
    masks = truth()
    poor = masks.clone()
    poor[..., 5:7] = False
    poor[seed] = masks[seed]
    boxes = torch.stack([torch.tensor([z, 3.0, z + 5.0, 5.0]) for z in range(N)])  # [n, 4]
    return masks, torch.where(poor, 2.0, -2.0), boxes, torch.ones(N, dtype=torch.bool)


def test_from_the_seed_outwards_what_was_missing_is_found():
    masks, logits, boxes, gate = start()
    oracle = Oracle(masks)
    result = propagation.propagate(oracle, logits, boxes, gate, 3, reach=1.0, share=1.0)
    assert [call[0] for call in oracle.calls] == [[2, 4], [1, 5], [0, 6]]
    assert (result > 0)[[0, 1, 2, 4, 5, 6]].equal(masks[[0, 1, 2, 4, 5, 6]])
    assert result[3].equal(logits[3]) and not (logits > 0)[0].equal(masks[0])  # the argument is left alone
    # the box is the union of the own one and the neighbour's, dilated
    assert oracle.calls[0][1][0].tolist() == [2, 2, 9, 8]
    assert oracle.calls[0][2][0].equal(logits[3])  # and the mask is the neighbour's


def test_without_the_union_the_box_is_the_neighbours_alone():
    masks, logits, boxes, gate = start()
    oracle = Oracle(masks)
    propagation.propagate(oracle, logits, boxes, gate, 3, reach=0.0, share=1.0, unite=False, mask_prompt=False)
    assert oracle.calls[0][1][0].tolist() == [3, 3, 8, 7] and oracle.calls[0][2] is None


def test_the_share_says_how_much_of_the_earlier_answer_stays():
    masks, logits, boxes, gate = start()
    none = propagation.propagate(Oracle(masks), logits, boxes, gate, 3, share=0.0)
    assert none.equal(logits)
    half = propagation.propagate(Oracle(masks), logits, boxes, gate, 3, share=0.5)
    assert float(half[2, 4, 6]) == 0.5 * 6 - 0.5 * 2


def test_slices_outside_the_gate_are_neither_asked_nor_crossed():
    masks, logits, boxes, gate = start()
    gate[5] = False
    oracle = Oracle(masks)
    result = propagation.propagate(oracle, logits, boxes, gate, 3, share=1.0)
    asked = {z for call in oracle.calls for z in call[0]}
    assert asked == {0, 1, 2, 4} and result[5:].equal(logits[5:])


def test_beside_an_empty_slice_a_slice_stays_as_it_is_and_goes_on():
    masks, logits, boxes, gate = start()
    masks = masks.clone()
    masks[2] = False  # what slice 2 becomes: nothing
    oracle = Oracle(masks)
    result = propagation.propagate(oracle, logits, boxes, gate, 3, share=1.0)
    asked = {z for call in oracle.calls for z in call[0]}
    assert 1 not in asked and result[1].equal(logits[1]) and 0 in asked


def test_without_a_seed_nothing_is_asked():
    masks, logits, boxes, gate = start()
    oracle = Oracle(masks)
    assert propagation.propagate(oracle, logits, boxes, gate, None).equal(logits) and not oracle.calls


def test_the_seed_is_the_most_confident_slice_that_is_not_small():
    confidence = torch.tensor([0.99, 0.7, 0.8, 0.6, 1.0])
    gate = torch.tensor([True, True, True, True, False])
    assert propagation.choose_seed(confidence, gate, torch.tensor([2, 20, 18, 30, 99])) == 1
    assert propagation.choose_seed(confidence, gate, torch.tensor([20, 20, 20, 20, 20])) == 0
    assert propagation.choose_seed(confidence, gate, torch.zeros(5)) is None
