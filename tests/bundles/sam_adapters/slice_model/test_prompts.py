from __future__ import annotations

import pytest
import torch

from support.bundle.path import import_bundle
from support.networks.tiny_sam import tiny_sam

module = import_bundle("sam_adapters", "slice_model.prompts")


def test_a_dense_prompt_is_sams_own_embedding_of_no_mask_before_it_has_learnt():
    sam = tiny_sam()
    prompts = module.DensePrompts(sam, 2)(torch.randn(3, 3, 64, 64), torch.randn(3, 32, 8, 8))
    assert prompts.dense.shape == (3, 2, 32, 8, 8) and prompts.sparse.shape == (3, 2, 0, 32)
    own = sam.prompt_encoder.no_mask_embed.weight.view(1, 1, 32, 1, 1)
    assert prompts.dense.equal(own.expand(3, 2, 32, 8, 8)) and bool(prompts.asked.all())


def test_a_patch_map_has_half_the_rows_and_no_gradient_through_its_prompt():
    generator, features = module.PatchMapPrompts(tiny_sam(), 2), torch.randn(3, 32, 8, 8)
    prompts = generator(torch.empty(0), features)
    assert prompts.patches.shape == (3, 2, 4, 4) and prompts.dense.shape == (3, 2, 32, 8, 8)
    prompts.dense.sum().backward()
    assert all(parameter.grad is None for parameter in generator.map.parameters())
    assert all(parameter.grad is not None for parameter in generator.embed.parameters())


@torch.no_grad()
def test_the_prompt_is_what_its_patch_says():
    generator, features = module.PatchMapPrompts(tiny_sam(), 1), torch.randn(1, 32, 8, 8)
    there = generator(torch.empty(0), features).patches[0, 0] > 0
    dense = generator(torch.empty(0), features).dense[0, 0]
    for row in range(4):
        for column in range(4):
            block = dense[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            expected = generator.embed(there[row, column].float().view(1, 1, 1, 1, 1)).view(32, 1, 1)
            torch.testing.assert_close(block, expected.expand_as(block))


@pytest.mark.parametrize(("way", "tokens"), [("box", 2), ("centre", 2), ("both", 3)])
def test_boxes_and_centres_come_from_what_the_head_says(way, tokens, monkeypatch):
    sam = tiny_sam()
    generator, asked = module.SelfPrompts(sam, 1, way), []
    mask = torch.zeros(2, 32, 32, dtype=torch.bool)
    mask[0, 4:12, 8:24] = True
    monkeypatch.setattr(generator.head, "forward", lambda features: torch.stack([(~mask).float(), mask.float()], 1))
    forward = sam.prompt_encoder.forward

    def noted(points, boxes, masks):
        asked.append((points, boxes))
        return forward(points, boxes, masks)

    monkeypatch.setattr(sam.prompt_encoder, "forward", noted)
    prompts = generator(torch.empty(0), torch.randn(2, 32, 8, 8))
    assert prompts.asked.tolist() == [[True], [False]] and prompts.sparse.shape == (2, 1, tokens, 32)
    (points, boxes), scale = asked[0], 2  # encoder's pixels to one of the mask
    if way != "centre":
        assert boxes.tolist() == [[8 * scale - 0.5, 4 * scale - 0.5, 24 * scale - 0.5, 12 * scale - 0.5]]
    if way != "box":
        x, y = ((points[0][0, 0] + 0.5) / scale).tolist()
        assert 7 < y < 9 and 11 < x < 21  # the deepest pixels lie along the middle
        assert points[1].tolist() == [[1.0]]


def test_a_sam_that_takes_boxes_alone_gets_boxes():
    sam = tiny_sam()
    sam.prompts = import_bundle("sam_adapters", "common.sam.members.record").Prompts(points=False)
    assert module.SelfPrompts(sam, 1, "both").way == "box"
