from __future__ import annotations

import pytest
import torch

from support.bundle.path import import_bundle

InputError = import_bundle("semisam_plus", "common.errors").InputError
GeneralistLoss = import_bundle("semisam_plus", "generalists.generalist_loss").GeneralistLoss


@pytest.fixture
def parts():
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 6, 5, 4, requires_grad=True)
    answer = torch.softmax(4 * torch.randn(2, 3, 6, 5, 4), 1).requires_grad_()
    disagreement = (0.25 * torch.rand(2, 1, 6, 5, 4)).requires_grad_()
    return logits, answer, disagreement, torch.ones(2)


@pytest.mark.parametrize("weight", ["exp", "inverse", "none"])
def test_the_specialist_gets_a_gradient_and_the_answers_none(parts, weight):
    logits, *rest = parts
    GeneralistLoss(weight, attach=0.3)(logits.softmax(1), *rest).backward()
    assert logits.grad.abs().sum() > 0
    assert rest[0].grad is None and rest[1].grad is None


def test_the_loss_is_no_constant(parts):
    """The authors' release divides the loss by itself: always 1, no gradient."""
    logits, answer, *rest = parts
    loss = GeneralistLoss()
    values = [float(loss((scale * logits).softmax(1), answer, *rest)) for scale in (0.1, 1, 5)]
    assert len(set(values)) == 3 and all(0 < value < 1 for value in values)
    hard = torch.nn.functional.one_hot(answer.argmax(1), 3).movedim(-1, 1).float()
    assert float(loss(hard, answer, *rest)) == 0


def test_descending_it_brings_the_specialist_to_the_answer(parts):
    logits, answer, *rest = parts
    optimizer = torch.optim.Adam([logits], 0.2)
    before = (logits.argmax(1) == answer.argmax(1)).float().mean()
    for _ in range(60):
        optimizer.zero_grad()
        GeneralistLoss()(logits.softmax(1), answer, *rest).backward()
        optimizer.step()
    assert before < 0.6 and (logits.argmax(1) == answer.argmax(1)).float().mean() > 0.95


def test_values_by_hand():
    own = torch.tensor([[0.6, 0.1], [0.4, 0.9]]).view(1, 2, 2, 1, 1)
    answer = torch.tensor([[0.8, 0.3], [0.2, 0.7]]).view(1, 2, 2, 1, 1)
    u = torch.tensor([0.05, 0.2]).view(1, 1, 2, 1, 1)
    one = torch.ones(1)
    d = torch.tensor([0.16, 0.01])  # hard target: class 0, class 1
    w = torch.exp(-torch.tensor([0.05, 0.2]) / 0.1)
    assert float(GeneralistLoss("exp", tau=0.1)(own, answer, u, one)) == pytest.approx(float((d * w).sum() / w.sum()))
    assert float(GeneralistLoss("inverse")(own, answer, u, one)) == pytest.approx(0.16)  # weights 0.75 and 0
    assert float(GeneralistLoss("none")(own, answer, u, one)) == pytest.approx(0.085)
    soft = GeneralistLoss("none", hard=False)(own, answer, u, one)
    assert float(soft) == pytest.approx(0.04)
    assert float(GeneralistLoss("none", attach=0.5)(own, answer, u, one)) == pytest.approx(0.085 + 0.5 * 0.04)


def test_uncertain_voxels_count_less():
    u = torch.tensor([0.0, 0.02, 0.1, 0.275]).view(1, 1, 4, 1, 1)
    weight = GeneralistLoss("exp", tau=0.05).voxel_weight(u).flatten()
    assert (weight.diff() < 0).all() and weight[0] == 1
    assert weight[1] == pytest.approx(0.67, abs=0.005) and weight[3] == pytest.approx(0.004, abs=5e-4)
    assert (GeneralistLoss("inverse").voxel_weight(u).flatten().diff() < 0).all()
    assert GeneralistLoss("inverse").voxel_weight(torch.zeros_like(u)).eq(1).all()  # all prompts agree
    logits = torch.zeros(1, 2, 4, 1, 1, requires_grad=True)
    answer = torch.zeros(1, 2, 4, 1, 1).index_fill(1, torch.tensor([1]), 1.0)
    GeneralistLoss("exp")(logits.softmax(1), answer, u, torch.ones(1)).backward()
    assert (logits.grad[0, 1].abs().flatten().diff() < 0).all()


def test_a_shut_gate_scales_and_silences_its_item(parts):
    logits, answer, disagreement, _ = parts
    loss = GeneralistLoss()
    p = logits.softmax(1)
    both, first, second = (float(loss(p, answer, disagreement, torch.tensor(w))) for w in ([1, 1], [1, 0], [0, 1.0]))
    assert both == pytest.approx(first + second)
    assert float(loss(p, answer, disagreement, torch.tensor([0.5, 0.0]))) == pytest.approx(first / 2)
    wrong = torch.stack([answer[0], torch.full_like(answer[1], torch.nan)])
    assert float(loss(p, wrong, disagreement, torch.tensor([1.0, 0.0]))) == pytest.approx(first)


def test_nobody_answers(parts):
    logits, answer, disagreement, _ = parts
    for n in (2, 0):
        zero = GeneralistLoss()(logits[:n].softmax(1), answer[:n], disagreement[:n], torch.zeros(n))
        assert float(zero) == 0
        zero.backward()
    assert logits.grad.eq(0).all()


def test_order_of_items_does_not_matter(parts):
    logits, answer, disagreement, _ = parts
    weight = torch.tensor([1.0, 0.3])
    straight = GeneralistLoss()(logits.softmax(1), answer, disagreement, weight)
    turned = GeneralistLoss()(logits.softmax(1).flip(0), answer.flip(0), disagreement.flip(0), weight.flip(0))
    torch.testing.assert_close(straight, turned)


def test_float32_under_bfloat16(parts):
    logits, answer, disagreement, weight = parts
    with torch.autocast("cpu", torch.bfloat16):
        assert GeneralistLoss()(logits.softmax(1), answer.half(), disagreement.half(), weight).dtype == torch.float32


def test_wrong_arguments():
    with pytest.raises(InputError, match="is 'release'; wanted one of exp, inverse, none"):
        GeneralistLoss("release")
    with pytest.raises(InputError, match="tau is 0"):
        GeneralistLoss(tau=0)


def test_dice_and_cross_entropy_by_hand():
    own = torch.tensor([[0.6, 0.1], [0.4, 0.9]]).view(1, 2, 2, 1, 1)
    answer = torch.tensor([[0.8, 0.3], [0.2, 0.7]]).view(1, 2, 2, 1, 1)
    u = torch.tensor([0.05, 0.2]).view(1, 1, 2, 1, 1)
    w = torch.exp(-u.flatten() / 0.1)
    entropy = float(-(w * torch.tensor([0.6, 0.9]).log()).sum() / w.sum())
    dice = float(2 * 0.9 * w[1] / (0.4 * w[0] + 1.9 * w[1]))  # class 1: target 0 and 1
    loss = GeneralistLoss("exp", tau=0.1, form="dice_ce")(own, answer, u, torch.ones(1))
    assert float(loss) == pytest.approx(entropy + 1 - dice, abs=1e-4)


def test_an_unknown_form_is_refused():
    with pytest.raises(InputError, match="squared, dice_ce"):
        GeneralistLoss(form="l1")


def test_a_distillation_softens_both_alike():
    own = torch.tensor([[0.6, 0.1], [0.4, 0.9]]).view(1, 2, 2, 1, 1)
    answer = torch.tensor([[0.8, 0.3], [0.2, 0.7]]).view(1, 2, 2, 1, 1)
    u, one = torch.zeros(1, 1, 2, 1, 1), torch.ones(1)
    soft, wanted = ((p.log() / 10).softmax(1) for p in (own, answer))
    by_hand = 100 * (wanted * (wanted / soft).log()).sum(1).mean()
    loss = GeneralistLoss("none", form="distillation")
    assert float(loss(own, answer, u, one)) == pytest.approx(float(by_hand), rel=1e-4)
    assert float(loss(answer, answer, u, one)) == pytest.approx(0, abs=1e-6)
