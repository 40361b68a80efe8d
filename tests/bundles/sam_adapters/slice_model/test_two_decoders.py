from __future__ import annotations

import pytest
import torch

from support.bundle.path import import_bundle
from support.networks.tiny_sam import tiny_sam

module = import_bundle("sam_adapters", "slice_model.two_decoders")
Prompts = import_bundle("sam_adapters", "common.sam.members.record").Prompts
SIZE, SCALE = (24, 32), 2  # rows and columns of a slice; pixels of the tiny SAM's square to one of it


def build(points: bool = True, full: bool = False):
    torch.manual_seed(0)
    sam = tiny_sam()
    sam.prompts = Prompts(points=points)
    return module.TwoDecoders(sam, 3, full), sam


def found() -> torch.Tensor:
    """Two slices: a large and a small piece of structure 1, and an L of structure 2; nothing on the second slice."""
    classes = torch.zeros((2, *SIZE), dtype=torch.long)
    classes[0, 2:11, 3:12] = 1
    classes[0, 20:22, 2:4] = 1
    classes[0, 6:22, 20:23], classes[0, 19:22, 14:23] = 2, 2
    return classes


def test_both_points_lie_in_the_largest_component_and_the_first_one_is_its_deepest_pixel():
    decoders, classes = build()[0], found()
    drawn_pixels = set()
    for _ in range(30):
        centre, drawn = decoders.places(classes)
        assert centre.shape == drawn.shape == (2, 2, 1, 2)
        assert centre[0, 0, 0].tolist() == [6.5 * SCALE, 7.5 * SCALE]
        for places in (centre, drawn):
            for structure in (1, 2):
                row, column = (places[0, structure - 1, 0] / SCALE).floor().int().tolist()
                assert classes[0, row, column] == structure
                assert structure == 2 or row < 11  # not the small piece
            assert places[1].isnan().all()  # nothing was found there
        drawn_pixels.add(tuple(drawn[0, 0, 0].tolist()))
    assert len(drawn_pixels) > 15


def test_a_sam_that_takes_boxes_alone_gets_the_box_and_one_that_is_moved_a_little():
    decoders, _ = build(points=False)
    box, moved = decoders.places(found())
    assert box.shape == moved.shape == (2, 2, 2, 2) and box[1].isnan().all()
    assert (box[0, 0] / SCALE).tolist() == [[2, 3], [11, 12]]
    assert not moved[0].equal(box[0]) and (moved[0, 0] - box[0, 0]).abs().max() <= 0.15 * 9 * SCALE
    assert decoders.prompts[0](box).shape == (2, 4, 32)


def test_tokens_begin_as_sams_own_for_a_point_inside():
    decoders, sam = build()
    prompts = decoders.prompts[0]
    with torch.no_grad():
        prompts.structures.copy_(sam.prompt_encoder.point_embeddings[1].weight.expand_as(prompts.structures))
        centre, _ = decoders.places(found())
        # SAM counts pixels from their centres, adds half a one, and marks what is no point by the label -1
        points = centre[0, :, 0].flip(-1)[None] - 0.5
        expected, _ = sam.prompt_encoder((points, torch.ones(1, 2)), torch.zeros(1, 4), None)
        nothing, _ = sam.prompt_encoder((points, -torch.ones(1, 2)), torch.zeros(1, 4), None)
        tokens = prompts(centre)
    torch.testing.assert_close(tokens[:1], expected[:, :2])
    torch.testing.assert_close(tokens[1:], nothing[:, :2])


@pytest.mark.parametrize("full", [False, True])
def test_both_begin_apart_and_the_answer_is_the_mean_of_their_probabilities(full):
    decoders, sam = build(full=full)
    features, position = torch.randn(2, 32, 8, 8), sam.prompt_encoder.get_dense_pe()
    with torch.no_grad():
        one, other = (decoders.ask(which, features, position).softmax(1) for which in range(2))
        both = decoders(features, position).logits
    assert (one - other).abs().max() > 1e-4  # of a tiny SAM's, which are nearly equal
    torch.testing.assert_close(both.exp(), (one + other) / 2)


@torch.no_grad()
def test_a_prompt_changes_the_answer_for_the_slice_that_it_is_of():
    decoders, sam = build()
    features, position = torch.randn(2, 32, 8, 8), sam.prompt_encoder.get_dense_pe()
    centre, drawn = decoders.places(found())
    by_centre, by_drawn = (decoders.ask(0, features, position, None, places) for places in (centre, drawn))
    assert not by_centre[0].equal(by_drawn[0])
    torch.testing.assert_close(by_centre[1], by_drawn[1])  # asked about nothing, either time
