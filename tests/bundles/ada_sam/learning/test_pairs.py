from __future__ import annotations

import torch

from support.bundle.path import import_bundle

module = import_bundle("ada_sam", "learning.pairs")


def test_what_is_known_of_each_slice_and_class():
    presence = torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    mask = torch.full((4, 3, 3), -1)
    mask[0] = 0
    mask[0, 0, 0] = 1  # class 1 is drawn
    mask[1] = 0
    mask[1, 1, 1] = 2  # class 1 is said to be there, and not drawn
    mask[2] = 2  # left over: not annotated
    pairs = module.known_pairs(presence, mask, torch.tensor([1.0, 1.0, 0.0, 0.0]), 2)
    assert pairs.positive.tolist() == [[True, False], [False, True], [False, False], [False, False]]
    assert pairs.negative.tolist() == [[False, True], [False, False], [False, True], [True, False]]
    assert pairs.open.tolist() == [[False, False], [False, False], [True, False], [False, True]]
    assert not bool(pairs.truth[2:].any()) and int(pairs.truth.sum()) == 2
    assert bool(pairs.truth[0, 0, 0, 0]) and bool(pairs.truth[1, 1, 1, 1])


def test_a_limited_number_is_drawn_from_the_wanted():
    wanted = torch.rand(8, 5, generator=torch.Generator().manual_seed(0)) > 0.5
    drawn = [module.some_pairs(wanted, 3, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert all(int(some.sum()) == 3 and not bool((some & ~wanted).any()) for some in drawn)
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    for limit in (None, 40):
        assert torch.equal(module.some_pairs(wanted, limit, torch.Generator()), wanted)
