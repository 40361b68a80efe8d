from __future__ import annotations

import torch

from common.sam.build import build_sam
from common.sam.members.preprocessing import Preprocessing
from common.sam.patch_map import PatchMap, largest_of_patches
from support.networks.tiny_sam import tiny_sam


def test_a_map_has_half_the_rows_and_a_prompt_no_gradient_for_it():
    generator, features = PatchMap(tiny_sam(), 2), torch.randn(3, 32, 8, 8)
    patches = generator.patches(features)
    dense = generator.prompt(patches > 0, (8, 8))
    assert patches.shape == (3, 2, 4, 4) and dense.shape == (3, 2, 32, 8, 8)
    dense.sum().backward()
    assert all(parameter.grad is None for parameter in generator.map.parameters())
    assert all(parameter.grad is not None for parameter in generator.embed.parameters())


def test_it_has_the_published_number_of_parameters():
    with torch.device("meta"):
        generator = PatchMap(build_sam("sam_vit_b", pretrained=False), 1)
    assert sum(parameter.numel() for parameter in generator.map.parameters()) == 256 * 64 * 4 + 64 + 2 * 64 + 65
    assert 66_000 < sum(parameter.numel() for parameter in generator.parameters()) < 67_000


@torch.no_grad()
def test_a_structures_prompt_is_that_of_its_own_patches_whatever_the_size():
    generator = PatchMap(tiny_sam(), 2)
    there = torch.zeros(1, 2, 4, 4, dtype=torch.bool)
    there[0, 1, 2, 3] = True
    for size, factor in (((8, 8), 2), ((12, 12), 3)):
        nothing, one = generator.prompt(there, size)[0]
        elsewhere = nothing[:, :1, :1].expand_as(nothing)
        torch.testing.assert_close(nothing, elsewhere)
        changed = (one - elsewhere).abs().amax(0) > 1e-6
        wanted = there[0, 1].repeat_interleave(factor, 0).repeat_interleave(factor, 1)
        assert changed.equal(wanted)


def test_a_patch_has_its_largest_value_and_the_padding_none():
    maps = torch.zeros(1, 2, 24, 32)
    maps[0, 1, 5, 9] = 0.75  # pixels 10, 11 of rows and 18, 19 of columns: the patch of 16 pixels at row 0, column 1
    maps[0, 0, -1] = 0.25  # rows 46 and 47, the last ones above the padding
    found = largest_of_patches(maps, Preprocessing(64), (4, 4))
    wanted = torch.zeros(1, 2, 4, 4)
    wanted[0, 1, 0, 1], wanted[0, 0, 2] = 0.75, 0.25
    assert found.equal(wanted)
    bits = largest_of_patches(maps > 0.5, Preprocessing(64), (4, 4))
    assert bits.dtype == torch.float32 and bits.equal((wanted > 0.5).float())
