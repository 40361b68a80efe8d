from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from common.sam.members.preprocessing import Preprocessing
from support.bundle.path import import_bundle

module = import_bundle("ada_sam", "learning.pair_losses")
Pairs = import_bundle("ada_sam", "learning.pairs").Pairs


def test_presence_is_a_cross_entropy():
    logits, bits = torch.tensor([[2.0, -1.0], [0.5, 0.0]]), torch.tensor([[True, False], [False, True]])
    torch.testing.assert_close(module.presence_loss(logits, bits), bce(logits, bits.float()))


def test_class_weights_let_both_sides_of_a_class_weigh_the_same():
    bits = torch.tensor([[True], [False], [False], [False]])
    share = torch.tensor([0.25])

    def loss(logits):
        return float(module.presence_loss(torch.tensor(logits)[:, None], bits, share))

    flat = loss([0.0, 0.0, 0.0, 0.0])
    assert flat == pytest.approx(math.log(2))  # the mean weight is 1
    # one wrong positive costs as much as all negatives
    wrong_positive = loss([-3.0, 0.0, 0.0, 0.0]) - flat
    assert wrong_positive == pytest.approx(loss([0.0, 3.0, 3.0, 3.0]) - flat)
    rare = module.presence_loss(torch.tensor([[-3.0]]), torch.tensor([[True]]), torch.tensor([0.0001]))
    assert float(rare) == pytest.approx(10 * float(bce(torch.tensor(-3.0), torch.tensor(1.0))))


def test_pseudo_labels_count_where_the_teacher_is_sure():
    taught = torch.full((1, 4, 4), 0.05)
    taught[0, :2] = 0.95
    taught[0, 2] = 0.6
    logits = torch.where(taught > 0.9, 6.0, -6.0)
    good = module.pseudo_loss(logits, taught, 0.8)
    assert float(good) < 0.02
    unsure = logits.clone()
    unsure[0, 2] = 6.0
    torch.testing.assert_close(module.pseudo_loss(unsure, taught, 0.8), good)
    sure = logits.clone()
    sure[0, 3] = 6.0
    assert float(module.pseudo_loss(sure, taught, 0.8)) > 1
    assert float(module.pseudo_loss(unsure, taught, 0.5)) < float(module.pseudo_loss(logits, taught, 0.5))


def test_a_teacher_who_is_sure_of_nothing_teaches_nothing():
    logits = torch.randn(2, 3, 3, requires_grad=True)
    module.pseudo_loss(logits, torch.full((2, 3, 3), 0.5), 0.8).backward()
    assert float(logits.grad.abs().sum()) == 0


def test_agreement_of_two_answers():
    logits = torch.full((1, 8, 8), -9.0)
    logits[0, :2] = 9.0
    assert float(module.agreement_loss(logits, logits)) == 0
    assert float(module.agreement_loss(logits, -logits)) == pytest.approx(1, abs=1e-3)
    nearly = logits.clone()
    nearly[0, 1] = -9.0  # half of one: |a - b|^2 / (|a|^2 + |b|^2) = 8 / (16 + 8)
    assert float(module.agreement_loss(logits, nearly)) == pytest.approx(1 / 3, abs=1e-3)
    assert float(module.agreement_loss(nearly, logits)) == pytest.approx(1 / 3, abs=1e-3)


def test_maps_are_learnt_as_logits_of_the_true_masks_where_there_are_any():
    truth = torch.zeros(3, 2, 6, 6, dtype=torch.bool)
    truth[0, 0, 1:4, 2:5] = truth[1, 1, 3:, 3:] = True
    annotated = torch.tensor([True, False, True])
    right = 20 * (2 * truth.float() - 1)
    assert module.locate_loss(right, truth, annotated) < 1e-2 < 1 < module.locate_loss(-right, truth, annotated)
    maps = torch.randn(3, 2, 6, 6, generator=torch.Generator().manual_seed(0), requires_grad=True)
    module.locate_loss(maps, truth, annotated).backward()
    assert maps.grad[1].abs().max() == 0 and (maps.grad[annotated].abs() > 0).all()  # empty masks teach too
    nothing = module.locate_loss(maps, truth, torch.zeros(3, dtype=torch.bool))
    nothing.backward()
    assert nothing == 0


def known(*kinds):
    """Return `Pairs` of slices of 4 x 4 with one class of the given kinds, without truth."""
    said = torch.tensor([[kind == one for kind in ("positive", "negative", "open")] for one in kinds])
    return Pairs(*said.T[..., None], torch.zeros(len(kinds), 1, 4, 4, dtype=torch.bool))


def patch_grad(pairs, cam):
    """Return the sign of what a map of 2 x 2 patches learns where it says nothing yet."""
    patches = torch.zeros(len(cam), 1, 2, 2, requires_grad=True)
    module.patch_loss(patches, pairs, cam.requires_grad_(), Preprocessing(16), 0.8).backward()
    assert cam.grad is None
    return -patches.grad.sign()[:, 0]


def test_a_patch_map_learns_masks_and_where_bits_alone_are_known_sure_activation_maps():
    pairs = known("positive", "negative", "open", "none")
    pairs.truth[0, 0, 1, 2] = True
    cam = torch.full((4, 1, 4, 4), 0.1)
    cam[:, 0, 3, 0], cam[:, 0, 0, 3] = 0.9, 0.5
    found = patch_grad(pairs, cam)
    assert found[0].tolist() == [[-1, 1], [-1, -1]]  # the mask, whatever the activation map says
    assert found[1].tolist() == [[-1, -1], [-1, -1]]  # not there, wherever the activation map is
    assert found[2].tolist() == [[-1, 0], [1, -1]]  # nothing from where it is not sure
    assert not found[3].any()  # said to be there, and not in the mask


def test_an_activation_map_that_finds_nothing_of_what_is_there_teaches_nothing():
    assert not patch_grad(known("open"), torch.full((1, 1, 4, 4), 0.1)).any()
