from __future__ import annotations

import torch

from support.bundle.path import import_bundle
from support.networks.tiny_sam import tiny_sam

module = import_bundle("sam_adapters", "slice_model.hierarchical_decoder")


@torch.no_grad()
def test_a_token_looks_where_the_first_stage_has_seen_its_class():
    torch.manual_seed(0)
    attention = module.MaskedAttention(16, heads=2).eval()
    tokens, image, position = torch.randn(1, 2, 16), torch.randn(1, 9, 16), torch.zeros(1, 9, 16)
    mask = torch.full((1, 2, 9), 1e-6)
    mask[0, 0, 4] = 1.0  # class 0 at one place, class 1 nowhere in particular
    before = attention(tokens, image, position, mask)[0]
    for place, changes in ((4, True), (0, False)):
        other = image.clone()
        other[:, place] += 3
        after = attention(tokens, other, position, mask)[0]
        # its own place counts ten thousand times as much as any other
        assert (not torch.allclose(after[:, 0], before[:, 0], atol=5e-2)) == changes


def test_the_rarest_class_is_disturbed_most_and_only_in_training():
    decoder = module.HierarchicalDecoder(tiny_sam(), 3)
    decoder.note_rarity(torch.tensor([10_000, 400, 100]))
    torch.testing.assert_close(decoder.guide.rarity, torch.tensor([0.1, 0.5, 1.0]))
    maps = torch.randn(1, 3, 8, 8)
    guide = decoder.guide.eval()
    with torch.no_grad():
        assert guide(maps).equal(guide(maps))
        torch.testing.assert_close(guide(maps).sum(), torch.tensor(1.0))
        guide.train()
        assert not guide(maps).equal(guide(maps))


@torch.no_grad()
def test_the_second_stage_begins_from_the_first_ones_pixels():
    torch.manual_seed(0)
    decoder = module.HierarchicalDecoder(tiny_sam(), 3).eval()
    features, position = torch.randn(2, 32, 8, 8), torch.randn(1, 32, 8, 8)
    answer = decoder(features, position)
    torch.testing.assert_close(answer.first, decoder.stage(features, position).logits)
    detail = torch.ones(2, 4, 32, 32)
    assert not decoder(features, position, detail).logits.allclose(answer.logits)
