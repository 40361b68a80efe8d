from __future__ import annotations

import copy
import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from support.ada_sam.batch import make_batch, make_network, make_slices
from support.bundle.path import import_bundle

module = import_bundle("ada_sam", "learning.objective")
AdaptObjective = module.AdaptObjective
ClassifyObjective = import_bundle("ada_sam", "learning.sight_objective").ClassifyObjective
PARTS = {"classify", "segment", "negative", "consistency", "prompt"}
ONLY = {f"{name}_weight": 0.0 for name in PARTS}


def make(network=None, step=0, **options):
    it = AdaptObjective(make_network() if network is None else network, **{"total_steps": 10, **options})
    it.step += step
    return it.train()


def count_calls(monkeypatch, network):
    """Return a list to which every question to the decoder adds its number of masks."""
    calls, answer = [], network.answer

    def counted(embedding, boxes, masks=None, asked=None):
        calls.append(int(asked.sum()))
        return answer(embedding, boxes, masks, asked)

    monkeypatch.setattr(network, "answer", counted)
    return calls


def sure_teacher(monkeypatch, it):
    """Let the teacher see both classes and its masks be sure."""
    ask = it.ask_teacher

    def surely(some, wanted):
        response, _ = ask(some, wanted)
        return response._replace(logits=(response.logits - response.logits.mean()) * 100), wanted

    monkeypatch.setattr(it, "ask_teacher", surely)


def grads(network, loss):
    network.zero_grad(set_to_none=True)
    loss.backward()
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


def test_classify_teaches_the_head_alone():
    it = ClassifyObjective(make_network(), [0.5, 0.5]).train()
    batch = make_batch(it.network)
    losses = it(batch)
    torch.testing.assert_close(losses["loss"], bce(it.network.look(batch["embedding"]).presence, batch["presence"]))
    assert all(name.startswith("head.") for name in grads(it.network, losses["loss"]))
    assert bool(it.network.observed.all())
    optimizer = torch.optim.AdamW(it.param_groups(0.01))
    for _ in range(60):
        optimizer.zero_grad()
        it(batch)["loss"].backward()
        optimizer.step()
    seen = it.network.look(batch["embedding"]).presence > 0
    assert torch.equal(seen, batch["presence"] > 0.5)


def test_classify_in_evaluation_moves_no_range():
    it = ClassifyObjective(make_network()).eval()
    it(make_batch(it.network))
    assert not bool(it.network.observed.any())


def test_the_loss_is_the_weighted_sum_of_its_parts(monkeypatch):
    weights = {"classify_weight": 0.7, "segment_weight": 1.3, "negative_weight": 0.4, "prompt_weight": 0.2}
    it = make(step=8, consistency_weight=0.6, **weights)
    sure_teacher(monkeypatch, it)
    losses = it(make_batch(it.network))
    assert set(losses) == {"loss", "consistency_weight"} | PARTS
    assert all(float(loss.detach()) > 0 for loss in losses.values())
    weights |= {"consistency_weight": float(losses["consistency_weight"])}
    assert weights["consistency_weight"] == pytest.approx(0.6)
    wanted = sum(weights[f"{name}_weight"] * losses[name] for name in PARTS)
    torch.testing.assert_close(losses["loss"], wanted)


def test_lambda_waits_and_rises():
    it = make(total_steps=100, consistency_weight=0.5)
    assert it.consistency_at(9) == 0
    assert it.consistency_at(10) == pytest.approx(0.5 * math.exp(-5 * 0.75**2))
    assert it.consistency_at(40) == it.consistency_at(99) == 0.5
    assert it.alpha_at(0) == 0 and it.alpha_at(1) == 0.5
    assert make(total_steps=10000).alpha_at(5000) == pytest.approx(0.9945)


@pytest.mark.parametrize("part", sorted(PARTS))
def test_a_part_without_weight_is_gone_and_costs_nothing(part, monkeypatch):
    it = make(step=8, **{f"{part}_weight": 0.0})
    batch, calls = make_batch(it.network), count_calls(monkeypatch, it.network)
    losses = it(batch)
    assert part not in losses and (PARTS - {part}) <= set(losses)
    assert (it.teacher is None) is (part == "consistency")
    # 4 positive with a mask, 4 negative, 4 open: the teacher is asked about these, and twice the student
    assert sum(calls) == 4 + 4 + 3 * 4 - (0 if part == "classify" else 4)


def test_bits_alone_ask_nothing_of_the_decoder(monkeypatch):
    it = make(step=8, **ONLY | {"classify_weight": 1.0})
    calls = count_calls(monkeypatch, it.network)
    assert set(it(make_batch(it.network))) == {"loss", "classify"} and sum(calls) == 0


def test_counts_are_limited(monkeypatch):
    it = make(step=8, max_pairs=2, max_negatives=1)
    batch, calls = make_batch(it.network), count_calls(monkeypatch, it.network)
    it(batch)
    assert sum(calls) == 2 + 1 + 3 * 2


def test_the_teacher_rests_before_its_time(monkeypatch):
    it = make(step=0)
    monkeypatch.setattr(it, "ask_teacher", None)
    losses = it(make_batch(it.network))
    assert float(losses["consistency"].detach()) == 0 == float(losses["consistency_weight"])
    assert float(losses["prompt"].detach()) > 0  # the own boxes are moved in the meantime


def test_every_part_teaches_and_the_encoder_never_learns(monkeypatch):
    for part, taught in {
        "classify": {"head"},
        "segment": {"sam.mask_decoder", "sam.prompt_encoder", "head"},  # the head through the mask prompts
        "negative": {"sam.mask_decoder", "sam.prompt_encoder", "head"},
        "consistency": {"sam.mask_decoder", "sam.prompt_encoder"},
        "prompt": {"sam.mask_decoder", "sam.prompt_encoder"},
    }.items():
        it = make(step=8, **ONLY | {f"{part}_weight": 1.0, "mask_share": 1.0})
        batch = make_batch(it.network)
        it.network.observe(it.network.look(batch["embedding"]).maps, batch["presence"])
        if part == "consistency":
            sure_teacher(monkeypatch, it)
        found = grads(it.network, it(batch)["loss"])
        assert {".".join(name.split(".")[: 2 if name.startswith("sam") else 1]) for name in found} == taught, part


def test_at_first_masks_do_not_teach_the_classifier():
    for step, reached in ((0, False), (1, True)):
        it = make(step=step, **ONLY | {"segment_weight": 1.0, "mask_share": 1.0})
        batch = make_batch(it.network)
        it.network.observe(it.network.look(batch["embedding"]).maps, batch["presence"])
        found = grads(it.network, it(batch)["loss"])
        assert any(name.startswith("head.") for name in found) is reached


@pytest.mark.parametrize("options", [{"feedback": False}, {"feedback": "gt"}, {"dense_prompt": "patch_map"}])
def test_masks_of_other_slices_are_never_read(options):
    results = []
    for poison in (-1, 2, 99):
        it = make(make_network(**options), step=8)
        batch = make_batch(it.network)
        batch["mask"][3:] = poison
        torch.manual_seed(0)
        results.append(it(batch)["loss"].detach())
    assert results[0] == results[1] == results[2]


def test_a_patch_map_learns_from_activation_maps_where_bits_alone_are_known(monkeypatch):
    it = make(make_network(dense_prompt="patch_map"), **ONLY | {"patch_weight": 1.0})
    network = it.network
    batch = make_batch(network, annotated=0)
    truth = torch.stack([make_slices()[1] == value for value in (1, 2)], 1).float()
    look = it.look

    def well(*given):
        response = look(*given)
        return response._replace(sight=response.sight._replace(cam=truth.clamp(0.05, 0.95)))

    monkeypatch.setattr(it, "look", well)
    optimizer = torch.optim.AdamW(it.param_groups(2e-3))
    for _ in range(150):
        losses = it(batch)
        found = grads(network, losses["loss"])
        assert set(losses) == {"loss", "patches"} and all(name.startswith("patch_map.map.") for name in found)
        optimizer.step()
    wanted = torch.nn.functional.max_pool2d(truth, 8) > 0
    assert torch.equal(network.patches(batch["embedding"]), wanted) and not wanted[5].any()


@pytest.mark.parametrize("options", [{}, {"mask_prompt": False}])
def test_without_a_patch_map_nothing_is_said_of_one(options):
    it = make(make_network(**options), patch_weight=5.0)
    assert "patches" not in it(make_batch(it.network)) and it.weights["patches"] == 0


def test_steps_repeat_whatever_was_drawn_before():
    def losses(seed, step, before):
        torch.manual_seed(before)
        it = make(step=step, seed=seed)
        return it(make_batch(it.network))["loss"].detach()

    assert losses(0, 8, 1) == losses(0, 8, 2)
    assert losses(0, 8, 1) != losses(1, 8, 1) and losses(0, 8, 1) != losses(0, 9, 1)


def test_a_resumed_training_goes_on_where_it_was():
    def train(it, optimizer, batch, steps):
        for _ in range(steps):
            optimizer.zero_grad()
            loss = it(batch)["loss"]
            loss.backward()
            optimizer.step()
        return loss.detach()

    its = [make(total_steps=6, teacher_presence=0.0, confidence=0.5) for _ in range(2)]
    batch = make_batch(its[0].network)
    optimizers = [torch.optim.AdamW(it.param_groups(1e-3)) for it in its]
    train(its[0], optimizers[0], batch, 3)
    its[1].load_state_dict(its[0].state_dict())
    optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))  # which torch would share
    first, second = (train(it, optimizer, batch, 3) for it, optimizer in zip(its, optimizers, strict=True))
    assert first == second and int(its[1].step) == 6
    for name, average in its[0].teacher.averages().items():
        torch.testing.assert_close(average, its[1].teacher.averages()[name], rtol=0, atol=0)


def test_a_teacher_that_doubts_or_sees_nothing_is_not_believed(monkeypatch):
    it = make(step=8, teacher_presence=1.0)
    batch = make_batch(it.network)
    assert float(it(batch)["consistency"].detach()) == 0
    it = make(step=8)
    sure_teacher(monkeypatch, it)
    ask = it.ask_teacher

    def blind(some, wanted):
        response, sure = ask(some, wanted)
        return response._replace(logits=torch.full_like(response.logits, -9.0)), sure

    assert float(it(batch)["consistency"].detach()) > 0
    monkeypatch.setattr(it, "ask_teacher", blind)
    assert float(it(batch)["consistency"].detach()) == 0


def test_a_look_without_learning_is_no_step():
    it = make(step=8).eval()
    before = {name: value.clone() for name, value in it.state_dict().items()}
    it(make_batch(it.network))
    assert all(torch.equal(value, before[name]) for name, value in it.state_dict().items())


@pytest.mark.parametrize("annotated", [0, 6])
def test_a_batch_of_one_kind(annotated):
    it = make(step=8)
    losses = it(make_batch(it.network, annotated))
    losses["loss"].backward()
    empty = ("segment",) if annotated == 0 else ("consistency", "prompt")
    assert all(float(losses[name].detach()) == 0 for name in empty)


def test_feedback_learns_by_both_looks():
    network = make_network(feedback=True)
    it = make(network, step=8)
    batch = make_batch(network)
    found = grads(network, it(batch)["loss"])
    assert "feedback.out.weight" in found
    torch.manual_seed(0)
    both = make(network, step=8, **ONLY | {"segment_weight": 1.0})(batch)["loss"].detach()
    torch.manual_seed(0)
    last = make(network, step=8, first_weight=0.0, **ONLY | {"segment_weight": 1.0})(batch)["loss"].detach()
    assert both > last


def test_adapters_learn_from_images_live(monkeypatch):
    network = make_network(lora_rank=2)
    it = make(network, step=8)
    sure_teacher(monkeypatch, it)
    losses = it(make_batch(network, embed=False))
    assert float(losses["consistency"].detach()) > 0
    found = grads(network, losses["loss"])
    encoder = [name for name in found if "image_encoder" in name]
    assert encoder and set(encoder) <= set(network.trainable_parameters())


def own_dice(network, batch):
    """Return the mean Dice of the network's own answers, prompts and presence its own, over classes that are there."""
    network.eval()
    with torch.no_grad():
        response = network(batch["embedding"])
    found = (response.logits > 0) & response.asked[..., None, None]
    dice = []
    for p in range(network.classes):
        for pred, mask in zip(found[:, p], batch["mask"] == p + 1, strict=True):
            if bool(mask.any()):
                dice.append(2 * int((pred & mask).sum()) / int(pred.sum() + mask.sum()))
            else:
                assert not bool(pred.any())
    return sum(dice) / len(dice)


def test_four_slices_are_learnt_by_heart():
    network = make_network()
    batch = make_batch(network, 4, 4)
    steps = 100
    stages = (
        (ClassifyObjective(network), 0.01, 30),
        (make(network, total_steps=steps, consistency_weight=0.0, mask_share=1.0), 0.008, steps),
    )
    for objective, rate, count in stages:
        objective.train()
        optimizer = torch.optim.AdamW(objective.param_groups(rate))
        schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, count, 0.9)
        for _ in range(count):
            optimizer.zero_grad()
            objective(batch)["loss"].backward()
            torch.nn.utils.clip_grad_norm_(objective.parameters(), 5.0)
            optimizer.step()
            schedule.step()
    assert own_dice(network, batch) > 0.95


def test_settings_out_of_range_are_said_together():
    with pytest.raises(ValueError) as error:
        make(total_steps=0, segment_weight=-1, confidence=2, noise=-1, max_pairs=0, ema_alpha=(0.9, 1.5))
    assert len(str(error.value).splitlines()) == 6
    with pytest.raises(ValueError, match="all weights are 0"):
        make(**ONLY)
