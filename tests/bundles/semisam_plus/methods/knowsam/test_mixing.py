from __future__ import annotations

import torch

from support.bundle.path import import_bundle

mixing = import_bundle("semisam_plus", "methods.knowsam.mixing")


def test_the_surest_blocks_are_taken_five_of_sixteen():
    entropy = torch.rand(2, 1, 8, 8, 8) * 0.1 + 0.5
    entropy[0, :, :2] = 0.0  # a quarter of the blocks
    taken = mixing.surest_blocks(entropy, torch.ones(2, 1, 8, 8, 8, dtype=torch.bool))
    assert taken.float().mean((1, 2, 3, 4)).tolist() == [20 / 64, 20 / 64]
    assert bool(taken[0, :, :2].all()) and int(taken[0, :, 2:].sum()) == 4 * 8


def test_what_was_not_scanned_is_never_taken():
    entropy, inside = torch.rand(1, 1, 8, 8, 8), torch.zeros(1, 1, 8, 8, 8, dtype=torch.bool)
    inside[..., :2] = True
    taken = mixing.surest_blocks(entropy * inside, inside)
    assert int(taken.sum()) == 16 * 8 and not bool(taken[..., 2:].any())


def test_any_size_has_blocks():
    taken = mixing.surest_blocks(torch.rand(1, 1, 7, 3, 10), torch.ones(1, 1, 7, 3, 10, dtype=torch.bool))
    assert 0.1 < taken.float().mean() < 0.6


def test_blocks_come_from_the_same_place_of_the_other():
    whole, other = torch.zeros(1, 2, 4, 4, 4), torch.ones(1, 2, 4, 4, 4)
    blocks = torch.zeros(1, 1, 4, 4, 4, dtype=torch.bool)
    blocks[..., 1, 2] = True
    assert torch.equal(mixing.pasted(whole, other, blocks), blocks.expand(1, 2, 4, 4, 4).float())
