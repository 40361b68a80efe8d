from __future__ import annotations

import pytest
import torch

from common.learning.losses import SoftDiceCE


def test_a_soft_target_is_met_best_by_itself():
    torch.manual_seed(0)
    target = torch.softmax(3 * torch.randn(1, 3, 4, 4, 4), 1)
    loss = SoftDiceCE()
    best = loss(target.log(), target)
    for other in (target.log() * 2, target.log() * 0.5, target.log() + torch.randn_like(target)):
        assert loss(other, target) > best


def test_it_is_dice_of_the_foreground_plus_cross_entropy():
    logits = torch.tensor([2.0, -1.0]).view(1, 2, 1, 1, 1).expand(1, 2, 2, 2, 2)
    target = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1, 1).expand(1, 2, 2, 2, 2)
    p = float(torch.softmax(torch.tensor([2.0, -1.0]), 0)[1])
    # MONAI's soft Dice with soft labels: 1 - 2 sum(min(p, t)) / sum(p + t), as |p - t| is what it lacks
    wanted = (1 - 2 * p / (p + 1)) - torch.log(torch.tensor(p))
    assert float(SoftDiceCE()(logits, target)) == pytest.approx(float(wanted), abs=1e-4)


def test_float32_whatever_comes_in():
    logits, target = torch.randn(1, 2, 4, 4, 4, dtype=torch.bfloat16), torch.rand(1, 2, 4, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert SoftDiceCE()(logits, target).dtype == torch.float32
