from __future__ import annotations

import torch

from common.cleaning import smooth_and_keep_largest


def test_specks_go_to_the_background_and_what_is_left_still_sums_to_one():
    label = torch.zeros(20, 20, 20, dtype=torch.long)
    label[4:12, 4:12, 4:12] = 1
    label[15:18, 15:18, 15:18] = 1
    label[4:9, 13:18, 4:9] = 2
    given = torch.nn.functional.one_hot(label, 3).movedim(-1, 0).float() * 0.8 + 0.2 / 3
    found = smooth_and_keep_largest(given, sigma=0.5)
    assert torch.allclose(found.sum(0), torch.ones(20, 20, 20), atol=1e-5)
    hard = found.argmax(0)
    assert not bool((hard[14:, 14:, 14:] > 0).any()) and int(hard[6, 6, 6]) == 1 and int(hard[6, 15, 6]) == 2
    assert int((hard == 1).sum()) > 400
    untouched = smooth_and_keep_largest(given, sigma=0.0)
    assert torch.equal(untouched.argmax(0)[:13], label[:13])


def test_a_prediction_of_background_alone_stays_one():
    empty = torch.tensor([0.9, 0.1]).view(2, 1, 1, 1).expand(2, 6, 6, 6)
    assert torch.allclose(smooth_and_keep_largest(empty), empty)
