from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from monai.networks.nets import DynUNet, SegResNet, UNet, VNet
from scipy import ndimage

from support.bundle.path import import_bundle
from support.semisam_plus.batch import CLASSES, gradients, make_batch, make_network
from support.semisam_plus.methods import NAMES, TEACHERS, InputError, make, methods, step

GeneralistLoss = import_bundle("semisam_plus", "generalists.generalist_loss").GeneralistLoss
signed_distance = import_bundle("semisam_plus", "methods.dtc").signed_distance
with_noise = import_bundle("semisam_plus", "methods.mean_teacher").with_noise
Discriminator = import_bundle("semisam_plus", "methods.dan").Discriminator

BODIES = {
    "UNet": lambda c: UNet(3, 1, c, (4, 8), (2,)),
    "VNet": lambda c: VNet(3, 1, c),
    "SegResNet": lambda c: SegResNet(3, 8, 1, c, blocks_down=(1, 1), blocks_up=(1,)),
    "DynUNet": lambda c: DynUNet(
        3, 1, c, (3, 3, 3), (1, 2, 2), (2, 2), filters=(4, 8, 16), deep_supervision=True, deep_supr_num=1
    ),
}


def without_dropout(module):
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout3d):
            part.p = 0.0
    return module


@pytest.mark.parametrize("method", NAMES)
def test_labels_of_unlabelled_items_are_never_read(method):
    clean, garbage = make_batch(), make_batch()
    garbage["label"][~garbage["labeled"]] = torch.nan
    first, second = (gradients(make(method, generalist_loss=GeneralistLoss()), batch) for batch in (clean, garbage))
    assert torch.equal(first[0], second[0]) and first[0].isfinite()
    assert first[1].keys() == second[1].keys()
    assert all(torch.equal(first[1][name], second[1][name]) for name in first[1])


@pytest.mark.parametrize("method", NAMES)
def test_the_order_of_the_items_does_not_matter(method):
    batch, order = make_batch((True, False, False, True)), torch.tensor([2, 0, 3, 1])
    results = []
    for turned in (batch, {name: value[order] for name, value in batch.items()}):
        it = make(method, generalist_loss=GeneralistLoss(), noise=0.0)
        results.append(gradients(without_dropout(it), turned))  # dropout is drawn by position
    torch.testing.assert_close(results[0][0], results[1][0])
    for name, value in results[0][1].items():
        torch.testing.assert_close(value, results[1][1][name], rtol=1e-3, atol=1e-5)


# MONAI's VNet has 45 million weights whatever its arguments
PAIRS = [
    pytest.param(method, body, marks=pytest.mark.slow if body == "VNet" and method != "supervised" else ())
    for method in NAMES
    for body in BODIES
]


@pytest.mark.parametrize(("method", "body"), PAIRS)
def test_every_method_learns_with_every_network(method, body):
    it = make(method, BODIES[body], generalist_loss=GeneralistLoss(), generalist_weight=1.0)
    optimizer, batch = torch.optim.AdamW(it.param_groups(5e-3)), make_batch()
    before = {name: value.clone() for name, value in it.network.named_parameters()}
    losses = [step(it, batch, optimizer) for _ in range(3)]
    assert all(value.isfinite() for each in losses for value in each.values())
    assert losses[-1]["supervised"] < losses[0]["supervised"]
    changed = [not torch.equal(value, before[name]) for name, value in it.network.named_parameters()]
    assert sum(changed) > 0.9 * len(changed)


@pytest.mark.parametrize("labeled", [(True, True), (False, False)])
@pytest.mark.parametrize("method", NAMES)
def test_one_kind_of_items_is_enough(method, labeled):
    it = make(method, generalist_loss=GeneralistLoss())
    value, grads = gradients(it, make_batch(labeled))
    assert value.isfinite() and grads and all(g.isfinite().all() for g in grads.values())


@pytest.mark.parametrize("method", NAMES)
def test_losses_are_float32_under_bfloat16(method):
    with torch.autocast("cpu", torch.bfloat16):
        losses = make(method, generalist_loss=GeneralistLoss())(make_batch())
    assert all(value.dtype == torch.float32 and value.isfinite() for value in losses.values())


@pytest.mark.parametrize("method", NAMES)
def test_resumed_training_is_uninterrupted_training(method):
    def run(it, optimizer, numbers):
        for number in numbers:
            torch.manual_seed(number)  # as the checkpoint handler does for each epoch
            losses = step(it, batch, optimizer)
        return losses

    batch = make_batch()
    straight = make(method, generalist_loss=GeneralistLoss(), consistency_ramp=1.0)
    start = copy.deepcopy(straight.state_dict())
    optimizer = torch.optim.AdamW(straight.param_groups(1e-2))
    wanted = run(straight, optimizer, range(4))
    first = make(method, generalist_loss=GeneralistLoss(), consistency_ramp=1.0)
    first.load_state_dict(start)
    optimizer = torch.optim.AdamW(first.param_groups(1e-2))
    run(first, optimizer, range(2))
    second = make(method, generalist_loss=GeneralistLoss(), consistency_ramp=1.0)
    second.load_state_dict(first.state_dict())
    resumed = torch.optim.AdamW(second.param_groups(1e-2))
    resumed.load_state_dict(optimizer.state_dict())
    got = run(second, resumed, range(2, 4))
    assert int(second.step) == 4
    assert all(torch.equal(got[name], value) for name, value in wanted.items())
    for name, value in straight.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name


@pytest.mark.parametrize("method", NAMES)
def test_the_optimizer_gets_all_that_learns_and_no_teacher(method):
    it = make(method)
    given = [p for group in it.param_groups(0.1) for p in group["params"]]
    assert {id(p) for p in given} == {id(p) for p in it.parameters() if p.requires_grad}
    assert len(given) == len({id(p) for p in given})
    assert (it.teacher is not None) == (method in [*TEACHERS, "knowsam"])  # that one's is both specialists in one


@pytest.mark.parametrize("method", ["mean_teacher", "ua_mt", "dan", "dtc", "cps", "knowsam"])
def test_the_consistency_reaches_the_specialist_from_unlabelled_items(method):
    it = make(method, noise=2.0)
    value, grads = gradients(it, make_batch((False, False)), "consistency")
    assert value > 0
    assert sum(float(g.abs().sum()) for name, g in grads.items() if name.startswith("network.")) > 1e-6
    assert not any(name.startswith(("teacher.", "discriminator.")) for name in grads)


@pytest.mark.parametrize("method", TEACHERS)
def test_the_teacher_follows_the_rule(method):
    it = make(method, ema_alpha=0.6)
    batch, optimizer = make_batch(), torch.optim.SGD(it.param_groups(0.5))
    wanted = None
    for t in range(5):
        student = [p.detach().clone() for p in it.network.parameters()]  # left by the step before
        alpha = min(1 - 1 / (t + 1), 0.6)
        wanted = (
            student if wanted is None else [alpha * w + (1 - alpha) * s for w, s in zip(wanted, student, strict=True)]
        )
        step(it, batch, optimizer)
        for got, value in zip(it.teacher.parameters(), wanted, strict=True):
            torch.testing.assert_close(got, value)
    assert not torch.equal(next(it.teacher.parameters()), next(it.network.parameters()))


def test_the_teacher_starts_as_a_copy_and_stands_still_in_evaluation():
    it = make("mean_teacher")
    for got, value in zip(it.teacher.parameters(), it.network.parameters(), strict=True):
        assert torch.equal(got, value) and not got.requires_grad
    it.eval()
    with torch.no_grad():
        next(it.network.parameters()).add_(1)
    it(make_batch())
    assert not torch.equal(next(it.teacher.parameters()), next(it.network.parameters()))
    it.train()
    it.teacher.eval()
    it(make_batch())
    assert it.teacher.training  # dropout in the teacher's passes


def test_mean_teacher_by_hand():
    it, batch = make("mean_teacher", noise=0.0), make_batch()
    with torch.no_grad():
        next(it.network.parameters()).add_(0.3)
    it.step += 10
    consistency = it(batch)["consistency"]
    student, teacher = (net(batch["image"][1:]).softmax(1) for net in (it.network, it.teacher))
    torch.testing.assert_close(consistency, (student - teacher).square().mean())


def test_noise_is_of_the_images_own_scale_and_cut_off():
    torch.manual_seed(0)
    image = torch.stack([torch.rand(1, 24, 24, 24), 100 * torch.rand(1, 24, 24, 24)])
    noise = (with_noise(image, 0.1) - image).flatten(1) / image.flatten(1).std(1, keepdim=True)
    assert noise.abs().amax() <= 0.2 + 1e-5 and noise.std(1).tolist() == pytest.approx([0.095, 0.095], abs=0.003)
    assert torch.equal(with_noise(image, 0.0), image)


def test_ua_mt_listens_only_where_the_teacher_is_certain():
    it, image = make("ua_mt", noise=0.0), make_batch()["image"][1:]
    with torch.no_grad():
        for p in it.teacher.parameters():
            p.zero_()  # every class as probable as the others
    assert it.certain(image, 0.0).shape == (2, 1, 16, 16, 16)
    assert it.certain(image, 0.0).eq(0).all() and it.certain(image, 1.0).eq(1).all()
    taught = torch.full((2, CLASSES, 16, 16, 16), 0.01)
    taught[:, 0] = 0.98
    taught[:, :, 8:] = 1 / 3
    it.ask_teacher = lambda image: taught
    certain = it.certain(image, 0.5)
    assert certain[:, :, :8].eq(1).all() and certain[:, :, 8:].eq(0).all()
    losses = it.method_losses(make_batch(), torch.zeros(3, CLASSES, 16, 16, 16), 0.5)
    # the undecided half, where the two agree, is left out of the mean as well
    assert float(losses["consistency"]) == pytest.approx(((0.98 - 1 / 3) ** 2 + 2 * (0.01 - 1 / 3) ** 2) / 3, rel=1e-4)


def test_ua_mt_of_a_certain_teacher_is_mean_teacher():
    it, batch = make("ua_mt", noise=0.0), make_batch()
    with torch.no_grad():
        next(it.network.parameters()).add_(0.3)
    it.step += 1000000  # the end of the ramp: all but the fully undecided voxels count
    consistency = it(batch)["consistency"]
    student, teacher = (net(batch["image"][1:]).softmax(1) for net in (it.network, it.teacher))
    torch.testing.assert_close(consistency, (student - teacher).square().mean(), rtol=1e-4, atol=1e-7)


def test_dan_keeps_its_two_players_apart():
    batch = make_batch()
    _, grads = gradients(make("dan"), batch, "consistency")
    assert grads and all(name.startswith("network.") for name in grads)
    _, grads = gradients(make("dan"), batch, "discriminator")
    assert grads and all(name.startswith("discriminator.") for name in grads)
    assert any(float(g.abs().sum()) > 0 for g in grads.values())


def test_dan_discriminator_learns_to_tell_and_takes_any_size():
    torch.manual_seed(0)
    judge = Discriminator(2, 4).eval()
    for size in ((16, 16, 16), (20, 33, 9), (4, 40, 17)):
        assert judge(torch.rand(1, 2, *size), torch.rand(1, 1, *size)).shape == (1, 2)
    it, batch = make("dan", consistency_weight=0.0, discriminator_lr=3e-3), make_batch((True, False))
    without_dropout(it)
    optimizer = torch.optim.AdamW(it.param_groups(0.0))
    values = [float(step(it, batch, optimizer)["discriminator"].detach()) for _ in range(30)]
    assert values[-1] < 0.3 * values[0]


def test_signed_distance_by_scipy():
    mask = torch.zeros(1, 12, 11, 10, dtype=torch.bool)
    mask[0, 3:9, 3:8, 2:8] = True
    got = signed_distance(mask)[0]
    inside, outside = (ndimage.distance_transform_edt(m) for m in (mask[0].numpy(), ~mask[0].numpy()))
    assert got[mask[0]].amax() == 0 and got[mask[0]].amin() == -1  # 0 on the mask's outermost voxels
    assert got[~mask[0]].amin() > 0 and got.amax() == 1
    np.testing.assert_allclose(got[~mask[0]], outside[~mask[0].numpy()] / outside.max(), rtol=1e-6)
    assert (got[mask[0]].numpy()[inside[mask[0].numpy()] == 1] == 0).all()
    empty, full = torch.zeros(1, 4, 4, 4, dtype=torch.bool), torch.ones(1, 4, 4, 4, dtype=torch.bool)
    assert signed_distance(torch.cat([empty, full])).unique(dim=0).flatten(1)[:, 0].tolist() == [-1, 1]


def test_dtc_level_sets_learn_the_distance_and_give_the_mask_back():
    it, batch = make("dtc", consistency_weight=0.0, level_set_weight=10.0), make_batch((True,))
    optimizer = torch.optim.AdamW(it.param_groups(2e-2))
    values = [float(step(it, batch, optimizer)["level_set"].detach()) for _ in range(60)]
    assert values[-1] < 0.3 * values[0]
    truth = batch["label"][0, 1:].bool()
    level_set = torch.stack([signed_distance(mask[None])[0] for mask in truth])
    back = torch.sigmoid(-1500 * level_set)
    assert torch.equal(back >= 0.5, truth)
    assert methods.body_channels("dtc", 3) == 5


def test_dtc_agrees_where_both_heads_say_the_same():
    it, batch = make("dtc"), make_batch()
    truth = batch["answer"]
    level_set = torch.stack([signed_distance(truth[:, k].bool()) for k in (1, 2)], 1)
    same = torch.cat([50 * truth, torch.atanh(level_set.clamp(-0.999, 0.999))], 1)
    other = torch.cat([50 * truth.roll(6, dims=3), torch.atanh(level_set.clamp(-0.999, 0.999))], 1)
    good, bad = (float(it.method_losses(batch, output, 0.0)["consistency"]) for output in (same, other))
    assert good < 0.02 and bad > 3 * good


def test_cps_by_hand_and_its_second_network():
    it, batch = make("cps"), make_batch()
    pairs = list(zip(it.network.parameters(), it.second.parameters(), strict=True))
    assert any(not torch.equal(one, two) for one, two in pairs) and all(one is not two for one, two in pairs)
    losses = it(batch)
    one, two = (net(batch["image"][1:]) for net in (it.network, it.second))
    ce = torch.nn.functional.cross_entropy
    torch.testing.assert_close(losses["consistency"], ce(one, two.argmax(1)) + ce(two, one.argmax(1)))
    _, grads = gradients(make("cps"), batch, "second")
    assert grads and all(name.startswith("second.") for name in grads)
    given = make_network(seed=7)
    assert methods.build_objective("cps", make_network(), total_steps=3, second=given).second is given


def test_build_objective_passes_over_options_of_others_and_refuses_what_nobody_has():
    for method in NAMES:
        options = {"ema_alpha": 0.9, "steepness": 10.0, "discriminator_lr": 1e-3, "passes": 3}
        assert type(make(method, **options)) is methods.METHODS[method]
    assert make("ua_mt", ema_alpha=0.5).ema_alpha == 0.5
    with pytest.raises(InputError, match="no method has an option ema_alhpa; wanted one of consistency_ramp, "):
        make("supervised", ema_alhpa=0.9)
    with pytest.raises(InputError, match=r"method is 'mean-teacher'; wanted one of .* did you mean mean_teacher"):
        methods.build_objective("mean-teacher", make_network(), total_steps=3)
    with pytest.raises(InputError, match="body has 3 output channels; DualTaskConsistency wanted 5 for 3 classes"):
        methods.build_objective("dtc", make_network(), total_steps=3)(make_batch())


@pytest.mark.parametrize(
    ("method", "option", "text"),
    [
        ("mean_teacher", {"ema_alpha": 1.5}, "ema_alpha is 1.5"),
        ("mean_teacher", {"noise": -1}, "noise is -1"),
        ("ua_mt", {"passes": 0}, "passes is 0"),
    ],
)
def test_wrong_settings(method, option, text):
    with pytest.raises(InputError, match=text):
        make(method, **option)


class Free(torch.nn.Module):
    """Stands for a network whose every logit is a parameter."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(torch.randn(3, channels, 16, 16, 16, generator=torch.manual_seed(2)))

    def forward(self, image):
        return self.logits[: len(image)]


@pytest.mark.parametrize("method", NAMES)
def test_what_was_not_scanned_teaches_no_method_anything(method):
    batch = make_batch()
    inside = torch.zeros(3, 1, 16, 16, 16)
    inside[..., 3:11] = 1
    for name in ("label", "answer"):
        batch[name] = batch[name] * inside
    loss = import_bundle("semisam_plus", "generalists.generalist_loss").GeneralistLoss(attach=0.5)
    objective = make(method, Free, generalist_loss=loss, generalist_fade=0.0)
    losses = objective({**batch, "inside": inside})
    losses["loss"].backward()
    moved = objective.network.body.logits.grad.abs().amax((0, 1, 2, 3))
    assert moved[:3].max() == 0 and moved[11:].max() == 0 and moved[3:11].min() > 0
    everywhere = {**make_batch(), "inside": torch.ones_like(inside)}
    torch.manual_seed(0)
    known = make(method, Free, generalist_loss=loss)(everywhere)["loss"]
    torch.manual_seed(0)
    del everywhere["inside"]
    assert torch.equal(known, make(method, Free, generalist_loss=loss)(everywhere)["loss"])
