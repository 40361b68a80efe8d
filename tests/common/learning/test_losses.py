from __future__ import annotations

import pytest
import torch
from monai.losses import DiceLoss
from torch.nn import functional as F

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


def test_voxels_of_no_class_teach_nothing_and_are_no_part_of_the_mean():
    torch.manual_seed(0)
    logits, target = torch.randn(2, 3, 4, 5, 6), torch.softmax(torch.randn(2, 3, 4, 5, 6), 1)
    scanned = SoftDiceCE()(logits[..., 1:3], target[..., 1:3])
    target[..., [0, 3, 4, 5]] = 0
    logits.requires_grad_()
    loss = SoftDiceCE()(logits, target)
    torch.testing.assert_close(loss, scanned)
    loss.backward()
    assert logits.grad[..., [0, 3, 4, 5]].abs().max() == 0 and logits.grad[..., 1:3].abs().min() > 0


def test_where_all_is_known_it_is_monais_to_the_last_bit():
    torch.manual_seed(0)
    logits, target = torch.randn(2, 3, 8, 8, 8), torch.softmax(torch.randn(2, 3, 8, 8, 8), 1)
    dice = DiceLoss(softmax=True, include_background=False, soft_label=True)(logits, target)
    assert torch.equal(SoftDiceCE()(logits, target), dice + F.cross_entropy(logits, target))
