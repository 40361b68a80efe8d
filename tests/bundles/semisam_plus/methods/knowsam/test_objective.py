from __future__ import annotations

import pytest
import torch
from monai.networks.nets import UNet

from support.bundle.path import import_bundle
from support.semisam_plus.batch import CLASSES, gradients, make_batch
from support.semisam_plus.methods import InputError, make

GeneralistLoss = import_bundle("semisam_plus", "generalists.generalist_loss").GeneralistLoss


def residual(channels):
    return UNet(3, 1, channels, (4, 8), (2,), num_res_units=2, norm="instance")


def test_the_second_specialist_is_of_another_kind():
    it = make("knowsam", residual)
    assert it.network.body.num_res_units == 2 and it.second.body.num_res_units == 0
    assert it.second.body.channels == it.network.body.channels and it.second.body.norm == it.network.body.norm


def test_mixes_come_after_their_share_of_the_steps():
    it = make("knowsam", mix_from=0.3, total_steps=10)
    found = [("mixed" in it(make_batch()), int(it.step)) for _ in range(5)]
    assert [has for has, _ in found] == [False, False, False, True, True]
    it.eval()
    assert "mixed" not in it(make_batch())


def test_a_batch_of_one_kind_has_nothing_to_mix():
    it = make("knowsam", mix_from=0.0)
    for labeled in ((True, True), (False, False)):
        assert float(it(make_batch(labeled))["mixed"]) == 0


def test_no_specialist_learns_through_the_head():
    for name in ("fused", "mixed"):
        it = make("knowsam", mix_from=0.0)
        it.learn_from_mixes = lambda batch, fused, it=it: it.fusion(fused, fused).sum()
        _, grads = gradients(it, make_batch(), name)
        moved = {key for key, grad in grads.items() if bool(grad.abs().sum() > 0)}
        assert moved and all(key.startswith("fusion.") for key in moved)


def test_a_mix_teaches_both_specialists_and_the_head():
    it = make("knowsam", mix_from=0.0)
    _, grads = gradients(it, make_batch(), "mixed")
    for part in ("network.", "second.", "fusion."):
        assert any(key.startswith(part) and bool(grad.abs().sum() > 0) for key, grad in grads.items()), part


def test_unlabelled_parts_of_a_mix_are_the_answers_where_one_is_heard():
    it, batch = make("knowsam", generalist_loss=GeneralistLoss()), make_batch()
    fused = torch.zeros(len(batch["image"]), CLASSES, 16, 16, 16)
    fused[:, 2] = 5.0
    batch["answer_weight"] = torch.zeros(len(fused))
    assert bool((it.taught(batch, fused).argmax(1) == 2).all())
    batch["answer_weight"] = torch.ones(len(fused))
    assert torch.equal(it.taught(batch, fused).argmax(1), batch["answer"].argmax(1))


def test_little_entropy_is_learnt_on_unlabelled_items_alone():
    it = make("knowsam")
    assert float(it(make_batch((True, True)))["entropy"]) == 0 < float(it(make_batch((False, False)))["entropy"])


@pytest.mark.parametrize("setting", [{"entropy_weight": -1.0}, {"mix_from": 2.0}, {"fusion_width": 0}])
def test_a_setting_out_of_its_range_is_refused(setting):
    with pytest.raises(InputError, match="wanted 0 or more, 0 to 1, and 1 or more"):
        make("knowsam", **setting)
