from __future__ import annotations

import math

import pytest
import torch
from monai.networks.nets import DynUNet
from torch import nn

from support.bundle.path import import_bundle
from support.semisam_plus.batch import CLASSES, gradients, make_batch, make_network

InputError = import_bundle("semisam_plus", "common.errors").InputError
objective = import_bundle("semisam_plus", "methods.base")
GeneralistLoss = import_bundle("semisam_plus", "generalists.generalist_loss").GeneralistLoss
MeanTeacher = import_bundle("semisam_plus", "methods.mean_teacher").MeanTeacher


def make(**options):
    options = {"total_steps": 10, "generalist_loss": GeneralistLoss()} | options
    return objective.SemiSupervisedObjective(make_network(), **options)


class Asked:
    """Stands for generalists: answers by a frozen network of its own, and remembers what it was shown."""

    def __init__(self):
        self.network = nn.Conv3d(1, CLASSES, 1)
        self.seen = []

    def __call__(self, image, probabilities):
        self.seen.append((image, probabilities))
        answer = self.network(image).softmax(1)
        return answer, torch.full_like(image, 0.01), torch.ones(image.shape[0])


def test_the_generalists_loss_teaches_the_specialist():
    batch = make_batch()
    for name in ("answer", "disagreement"):
        batch[name].requires_grad_()
    value, grads = gradients(make(), batch, "generalist")
    assert value > 0 and sum(float(g.abs().sum()) for g in grads.values()) > 1e-3
    assert batch["answer"].grad is None and batch["disagreement"].grad is None
    alone, with_answers = make(generalist_loss=None), make(generalist_weight=1.0)
    assert gradients(alone, batch)[0] < gradients(with_answers, batch)[0]


def test_without_generalist_loss_answers_are_not_looked_at():
    batch = make_batch()
    losses = make(generalist_loss=None)(batch)
    assert set(losses) == {"loss", "supervised"}
    torch.testing.assert_close(losses["loss"], 0.5 * losses["supervised"])
    torch.testing.assert_close(make(generalist_loss=None)(make_batch(answers=False))["loss"], losses["loss"])


def test_the_loss_is_the_weighted_sum_of_its_parts():
    it = make(generalist_weight=0.7, generalist_fade=0.0, supervised_weight=2.0)
    losses = it(make_batch())
    torch.testing.assert_close(losses["loss"], 2 * losses["supervised"] + 0.7 * losses["generalist"])
    assert float(losses["generalist_weight"]) == pytest.approx(0.7)


def test_answers_of_labelled_items_are_not_learnt():
    batch = make_batch()
    wanted = make()(batch)["generalist"]
    batch["answer"][0], batch["answer_weight"][0] = torch.nan, 1.0
    torch.testing.assert_close(make()(batch)["generalist"], wanted)


def pseudo_labeled_batch(known=slice(0, 9)):
    """Return a batch whose last item, an unlabelled one, has a pseudo label in some of its voxels."""
    batch = make_batch()
    label = torch.zeros_like(batch["label"])
    label[2, :, known] = batch["answer"][2, :, known]
    return batch | {"pseudo_label": label, "pseudo_labeled": torch.tensor([False, False, True])}


def test_pseudo_labels_teach_where_they_are_known_alone():
    it, batch = make(pseudo_label_weight=1.0, generalist_loss=None), pseudo_labeled_batch()
    level = torch.randn(batch["label"].shape, requires_grad=True)
    loss = it.learn_from_pseudo_labels([level], batch)
    loss.backward()
    seen = level.grad.abs().sum(1)
    assert seen[:2].sum() == 0 and seen[2, 9:].sum() == 0 and (seen[2, :9] > 0).all()
    batch["pseudo_label"][:2] = torch.nan  # of labelled items, and of those whose label isn't learnt from
    batch["pseudo_labeled"][0] = True
    torch.testing.assert_close(it.learn_from_pseudo_labels([level.detach()], batch), loss.detach())
    whole = pseudo_labeled_batch(slice(None))
    torch.testing.assert_close(
        it.learn_from_pseudo_labels([level.detach()], whole),
        it.segmentation_loss(level.detach()[2:], whole["pseudo_label"][2:]),
    )


def test_pseudo_labels_have_a_weight():
    batch = pseudo_labeled_batch()
    it = make(pseudo_label_weight=0.7, generalist_loss=None)
    losses = it(batch)
    torch.testing.assert_close(losses["loss"], 0.5 * losses["supervised"] + 0.7 * losses["pseudo_label"])
    assert "pseudo_label" not in make()(batch)
    assert float(make(pseudo_label_weight=0.7)(make_batch())["pseudo_label"]) == 0  # of a batch without any
    batch["pseudo_labeled"][:] = False
    assert float(it(batch)["pseudo_label"]) == 0


def test_schedules_and_the_step_counter():
    it = make(total_steps=10, consistency_weight=0.2, generalist_weight=0.5, generalist_warmup=0.3)
    batch = make_batch()
    seen = [float(it(batch)["generalist_weight"]) for _ in range(10)]
    assert seen[:3] == [0, 0, 0]
    assert seen[3:] == pytest.approx([0.5 * math.exp(-5 * (t / 10) ** 2) for t in range(3, 10)])
    assert int(it.step) == 10 and it.schedule(0)[0] == pytest.approx(0.2 * math.exp(-5))
    assert it.schedule(99) == (0.2, pytest.approx(0.5 * math.exp(-5)))
    it.eval()
    it(batch)
    assert int(it.step) == 10  # a look without learning is no step


def test_online_generalists_are_asked_with_what_the_specialist_says():
    ask, batch = Asked(), make_batch(answers=False)
    it = make(generalists=ask, generalist_weight=1.0)
    _, grads = gradients(it, batch, "generalist")
    assert any(float(g.abs().sum()) > 0 for g in grads.values())
    image, probabilities = ask.seen[0]
    assert torch.equal(image, batch["image"][1:]) and not probabilities.requires_grad
    torch.testing.assert_close(probabilities, it.network(batch["image"][1:]).softmax(1))
    assert ask.network.weight.grad is None
    bank = batch | dict(zip(("answer", "disagreement", "answer_weight"), ask(batch["image"], None), strict=True))
    torch.testing.assert_close(make(generalist_weight=1.0)(bank)["generalist"], it_at_start(it, batch))


def it_at_start(it, batch):
    it.step.zero_()
    return it(batch)["generalist"]


def test_generalists_are_no_part_of_what_is_trained_or_saved():
    frozen = nn.Conv3d(1, CLASSES, 1)
    it = make(generalists=frozen)
    assert frozen not in list(it.modules())
    assert set(it.state_dict()) == {f"network.{name}" for name in it.network.state_dict()} | {"step"}
    assert sum(len(group["params"]) for group in it.param_groups(0.1)) == len(list(it.network.parameters()))


def test_generalists_are_not_asked_in_vain():
    batch = make_batch(answers=False)
    for options, asked in (
        ({"generalist_warmup": 1.0}, 0),
        ({"generalist_weight": 0.0}, 0),
        ({"generalist_every": 2}, 2),
        ({}, 4),
    ):
        ask = Asked()
        it = make(generalists=ask, **options)
        for _ in range(4):
            it(batch)["loss"].backward()
        assert len(ask.seen) == asked
    ask = Asked()
    make(generalists=ask)(make_batch((True, True), answers=False))
    make(generalists=ask)(make_batch())  # the bank has answered
    assert not ask.seen


@pytest.mark.parametrize(("source", "same"), [("teacher", True), ("student", False)])
def test_prompts_come_from_the_teacher_or_the_student(source, same):
    ask, batch = Asked(), make_batch(answers=False)
    it = MeanTeacher(
        make_network(), total_steps=9, generalist_loss=GeneralistLoss(), generalists=ask, prompt_source=source
    )
    it(batch)
    with torch.no_grad():
        next(it.network.body.parameters()).add_(0.5)  # the student moves on
    it.step += 100000
    it(batch)
    told = it.teacher(batch["image"][1:]).softmax(1)
    assert torch.allclose(ask.seen[-1][1], told, atol=1e-5) == same


@pytest.mark.parametrize("labeled", [(True, True), (False, False)])
def test_one_kind_of_items_is_enough(labeled):
    it = make(generalist_weight=1.0)
    value, grads = gradients(it, make_batch(labeled))
    assert value > 0 and any(float(g.abs().sum()) > 0 for g in grads.values())
    bare = make(generalist_loss=None)
    value, grads = gradients(bare, make_batch(labeled))
    assert (float(value) > 0) == labeled[0] and all(g.isfinite().all() for g in grads.values())


def test_deep_supervision_reaches_every_head():
    body = DynUNet(3, 1, 3, (3, 3, 3), (1, 2, 2), (2, 2), filters=(4, 8, 16), deep_supervision=True, deep_supr_num=1)
    it = objective.SemiSupervisedObjective(make_network(body=body), total_steps=5)
    _, grads = gradients(it, make_batch())
    assert set(grads) == {name for name, _ in it.named_parameters()}
    assert all(float(g.abs().sum()) > 0 for name, g in grads.items() if "heads" in name and "weight" in name)


def test_channels_that_are_missing_are_named():
    it = objective.SemiSupervisedObjective(make_network(channels=2), total_steps=5)
    with pytest.raises(InputError, match="body has 2 output channels; SemiSupervisedObjective wanted 3 for 3 classes"):
        it(make_batch())


def test_wrong_settings_come_together():
    with pytest.raises(InputError) as caught:
        make(total_steps=0, consistency_ramp=1.5, generalist_weight=-1, prompt_source="oracle", generalist_every=0)
    assert len(caught.value.problems) == 5
