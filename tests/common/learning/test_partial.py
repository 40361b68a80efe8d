from __future__ import annotations

import torch
from monai.losses import DeepSupervisionLoss

from common.learning.losses import SoftDiceCE
from common.learning.partial import known_classes, merge_unknown, share_background

SIZE = (4, 5, 6)
KNOWN = torch.tensor([[True, True, False, False]])


def logits_of(seed: int = 0, batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, 4, *SIZE, generator=torch.Generator().manual_seed(seed))


def label_of(batch: int = 1) -> torch.Tensor:
    """A label in which half is class 1 and the rest what is none of the known."""
    label = torch.zeros(batch, 4, *SIZE)
    label[:, 1, :2], label[:, 0, 2:] = 1, 1
    return label


def test_known_classes_are_those_of_the_values_and_background():
    assert known_classes([7, 3], [0, 2, 3, 7]).tolist() == [True, False, True, True]
    assert known_classes(torch.tensor([2]), [0, 2, 3]).tolist() == [True, True, False]
    assert known_classes(None, [0, 2]).tolist() == [True, True]


def test_where_all_is_known_the_logits_are_the_very_same():
    logits = logits_of()
    assert merge_unknown(logits, None) is logits
    assert merge_unknown(logits, torch.ones(1, 4, dtype=torch.bool)) is logits
    mixed = merge_unknown(logits_of(batch=2), torch.cat([KNOWN, torch.ones_like(KNOWN)]))
    assert torch.equal(mixed[1], logits_of(batch=2)[1])
    assert share_background(logits, logits, torch.ones(1, 4, dtype=torch.bool)) is logits


def test_probability_of_unknown_classes_is_the_backgrounds():
    logits = logits_of()
    probabilities, merged = logits.softmax(1), merge_unknown(logits, KNOWN).softmax(1)
    torch.testing.assert_close(merged[:, 0], probabilities[:, [0, 2, 3]].sum(1))
    torch.testing.assert_close(merged[:, 1], probabilities[:, 1])
    assert not merged[:, 2:].any()


def test_mass_moved_between_background_and_unknown_classes_changes_nothing():
    logits, loss = logits_of().log_softmax(1), SoftDiceCE()
    moved = logits.exp()
    half = moved[:, 0] / 2
    moved[:, 0], moved[:, 3] = moved[:, 0] - half, moved[:, 3] + half
    same = [loss(merge_unknown(found, KNOWN), label_of()) for found in (logits, moved.log())]
    torch.testing.assert_close(*same)
    assert abs(loss(logits, label_of()) - loss(moved.log(), label_of())) > 0.05  # whole, the label would mind


def test_a_known_structure_is_learnt_and_leaves_an_unknown_one_nothing_there():
    logits = logits_of().requires_grad_()
    SoftDiceCE()(merge_unknown(logits, KNOWN), label_of()).backward()
    steps = -logits.grad
    inside, outside = steps[:, :, :2], steps[:, :, 2:]
    assert (inside[:, 1] > 0).all() and (inside[:, 2:] < 0).all()  # exclusion
    assert (outside[:, 1] < 0).all() and (outside[:, [0, 2, 3]] > 0).all()
    # what is not known is told nothing but that it is none of the known: relative chances stay
    logits = logits_of()
    logits[:, 1] = -20  # no known structure to be pushed away
    logits.requires_grad_()
    SoftDiceCE()(merge_unknown(logits, KNOWN), label_of())[()].backward()
    assert logits.grad[:, :, 2:].abs().max() < 1e-6


def test_a_known_class_weighs_the_same_whatever_else_is_known():
    target = label_of()
    logits = torch.full((1, 4, *SIZE), -30.0)
    logits[:, 0] = 0
    logits[:, 1] = 0.5
    whole, partial = (logits.clone().requires_grad_() for _ in range(2))
    SoftDiceCE()(whole, target).backward()
    SoftDiceCE()(merge_unknown(partial, KNOWN), target).backward()
    torch.testing.assert_close(whole.grad[:, 1], partial.grad[:, 1], atol=1e-5, rtol=1e-4)


def test_the_loss_is_finite_over_levels_and_in_half_precision():
    levels = [logits_of(1), logits_of(2)[..., ::2, ::2, ::2]]
    loss = DeepSupervisionLoss(SoftDiceCE())([merge_unknown(level, KNOWN) for level in levels], label_of())
    assert loss.isfinite()
    assert merge_unknown(logits_of().half(), KNOWN).isfinite().all()


def test_background_of_a_partial_label_is_shared_as_is_believed():
    believed = logits_of().softmax(1)
    found = share_background(label_of(), believed, KNOWN)
    torch.testing.assert_close(found.sum(1), torch.ones(1, *SIZE))
    pair = torch.cat([KNOWN, torch.ones_like(KNOWN)])
    sure = torch.tensor([0.0, 1.0, 0.0, 0.0]).view(1, 4, 1, 1, 1).expand(2, -1, *SIZE)
    assert torch.equal(share_background(label_of(2), sure, pair)[1], label_of()[0])
    assert torch.equal(found[:, 1], label_of()[:, 1]) and not found[:, [0, 2, 3], :2].any()
    torch.testing.assert_close(found[:, 2, 2:] / found[:, 3, 2:], believed[:, 2, 2:] / believed[:, 3, 2:])
