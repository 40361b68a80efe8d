from __future__ import annotations

import copy
import dataclasses
import shutil
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from common.atlas import atlas as atlas_module
from common.atlas import labeller as labeller_module
from common.atlas.rounds import LabellingRounds
from common.training.sampling import StreamSampler
from support.atlas.labeller import ATLAS, SIZE, Images, dice, make
from support.bundle.path import import_bundle
from support.data.shorter_scan import shorter_scan

transforms_module = import_bundle("rrl_medsam", "learning.transforms")


@pytest.fixture(scope="module")
def images():
    return Images()


@pytest.fixture(scope="module")
def done(images, tmp_path_factory):
    labeller = make(images, tmp_path_factory.mktemp("labels"))
    labeller.align()
    labeller.register()
    return labeller


def test_only_the_atlas_label_is_opened_and_only_once(done):
    assert done.opened == [f"/labels/{ATLAS}.nii.gz"]


def test_pseudo_labels_are_better_than_a_copy_of_the_atlas(done, images):
    for item in images:
        case = item["case"]
        label = done.labels.load(case)["label"]
        assert label.shape == (3, *SIZE)
        torch.testing.assert_close(label.sum(0), torch.ones(SIZE), rtol=0, atol=0.01)
        if case != ATLAS:
            assert dice(label, images.truth[case]) > dice(images.truth[ATLAS], images.truth[case]) + 0.05
            assert done.labels.judgement(case)["folding_percent"] < 0.1


def test_the_atlas_keeps_its_true_label(done, images):
    torch.testing.assert_close(done.labels.load(ATLAS)["label"], images.truth[ATLAS], rtol=0, atol=1e-3)
    assert done.labels.judgement(ATLAS) == {"quality": 1.0, "folding_percent": 0.0}


def test_the_best_half_and_the_atlas_are_learnt_from(done):
    quality = {f"case_{i}": done.labels.judgement(f"case_{i}")["quality"] for i in (0, 1, 3, 4)}
    best = sorted(quality, key=quality.get)[-2:]
    assert sorted(done.selected) == sorted(best)
    assert done.training_indices() == sorted([2, *(int(case[-1]) for case in best)])


@pytest.mark.parametrize(
    ("keep", "least", "count"), [(1.0, 0, 4), (0.25, 0, 1), (0.0, 0, 1), (0.25, 3, 3), (0.75, 2, 3), (0.5, 20, 4)]
)
def test_the_selected_share(done, images, keep, least, count):
    labeller = make(images, done.root, keep=keep, keep_least=least, resume=True)
    labeller.align()
    labeller.register()
    assert len(labeller.selected) == count and ATLAS not in labeller.selected
    assert 2 in labeller.training_indices() and len(labeller.training_indices()) == count + 1


@pytest.mark.parametrize(("share", "times"), [(0.0, 1), (0.3, 1), (0.5, 2), (0.8, 8)])
def test_the_atlas_comes_as_often_as_its_share_wants(done, share, times):
    labeller = copy.copy(done)
    labeller.atlas_share = share
    assert len(labeller.selected) == 2
    assert labeller.training_indices() == sorted([*[2] * times, *(int(case[-1]) for case in labeller.selected)])


def test_resume_takes_what_is_on_disk(done, images, monkeypatch):
    for name in ("register_affine", "register_velocity", "fuse"):
        monkeypatch.setattr(
            atlas_module if "register" in name else labeller_module,
            name,
            lambda *a, **k: pytest.fail("worked out again"),
        )
    again = make(images, done.root, resume=True)
    for _ in range(2):  # the folder is found again by the atlas and the grid
        again.align()
    again.register()
    assert again.selected == done.selected and again.work.folder == done.work.folder


def test_another_grid_does_not_go_on_with_these_registrations(done, images, tmp_path):
    other = make(images, done.root, resume=True)
    other.cohort.grid = dataclasses.replace(other.cohort.grid, pixdim=(2, 1, 1))
    other.align()
    assert other.work.folder != done.work.folder and other.work.folder.parent == done.work.folder.parent


def test_several_cases_at_once_get_the_same_labels(done, images, tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        labeller = make(images, tmp_path)
        labeller.align()
        labeller.register()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    for item in images:
        first, second = (one.labels.load(item["case"])["label"] for one in (labeller, done))
        torch.testing.assert_close(first, second, rtol=0, atol=2e-3)  # fp16


def test_resume_makes_what_is_missing_and_only_that(done, images, tmp_path, monkeypatch):
    labeller = make(images, tmp_path)
    labeller.align()
    calls = []
    original = atlas_module.register_velocity

    def counted(*arguments, **named):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*arguments, **named)

    monkeypatch.setattr(atlas_module, "register_velocity", counted)
    with pytest.raises(KeyboardInterrupt):
        labeller.register()
    again = make(images, tmp_path, resume=True)
    again.align()
    again.register()
    assert len(calls) == 3 + 2  # four cases: two before the kill, the third again, and the last
    assert again.selected == done.selected
    for item in images:
        first, second = (one.labels.load(item["case"])["label"] for one in (again, done))
        assert torch.equal(first, second)


def test_without_resume_everything_is_made_anew(images, tmp_path, monkeypatch):
    first = make(images, tmp_path, instance_steps=1)
    first.align()
    first.register()
    first.label(2)
    second = make(images, tmp_path, instance_steps=1)
    calls = []
    original = atlas_module.register_affine
    monkeypatch.setattr(atlas_module, "register_affine", lambda *a, **k: (calls.append(1), original(*a, **k))[1])
    second.align()
    assert len(calls) == 4 and "case_0" in second.registered[0].bank
    assert not list(tmp_path.glob("*/round_*/*"))


@pytest.fixture
def copied(done, tmp_path):
    return shutil.copytree(done.root, tmp_path / "copied")


def test_the_second_round_adds_the_networks_opinion(done, images, copied):
    labeller = make(images, copied, resume=True)
    labeller.align()
    labeller.register()
    labeller.network.train()
    labeller.label(2)
    assert labeller.network.calls == 4 and labeller.network.training
    assert labeller.labels.folder.name == "round_2"
    for case in labeller.selected:
        before, after = (dice(one.labels.load(case)["label"], images.truth[case]) for one in (done, labeller))
        assert after > before


def test_a_network_that_disagrees_is_not_heard(done, images, copied):
    labeller = make(images, copied, resume=True, min_agreement=1.1)
    labeller.align()
    labeller.register()
    labeller.label(2)
    for item in images.items:
        case = item["case"]
        assert torch.equal(labeller.labels.load(case)["label"], done.labels.load(case)["label"])


def test_guided_registration_uses_the_prediction(images, copied, monkeypatch):
    labeller = make(images, copied, guided_steps=4, resume=True)
    labeller.align()
    labeller.register()
    guides = []
    original = atlas_module.register_velocity

    def watched(*arguments, **named):
        guides.append((named["fixed_probabilities"].shape, named["velocity"].abs().sum() > 0))
        return original(*arguments, **named)

    monkeypatch.setattr(atlas_module, "register_velocity", watched)
    labeller.label(2)
    assert guides == [((1, 3, *SIZE), True)] * 4


def test_intensity_refinement_is_a_switch(done, images, tmp_path, monkeypatch):
    weights = []
    monkeypatch.setattr(
        labeller_module, "refine_by_intensity", lambda image, label, weight: (weights.append(weight), label)[1]
    )
    for weight in (0.0, 0.7):
        labeller = make(images, tmp_path / str(weight), instance_steps=1, refine_intensity=weight)
        labeller.align()
        labeller.register()
    assert weights == [0.7] * 4


def test_the_network_and_instance_optimisation_are_two_opinions(done, images, tmp_path):
    class Registration(nn.Module):
        def forward(self, moving, fixed):
            return torch.zeros(1, 3, *(n // 2 for n in SIZE))

    for steps, wanted in ((0, {"affine", "network"}), (2, {"affine", "network", "instance"})):
        labeller = make(images, tmp_path / str(steps), registration=Registration(), instance_steps=steps)
        labeller.align()
        labeller.register()
        assert set(labeller.registered[0].bank.load("case_0")) == wanted
        assert all(0 < labeller.labels.judgement(f"case_{i}")["quality"] <= 1 for i in range(5))


def test_rounds_follow_the_epochs_and_the_sampler_follows_the_rounds(done, images, copied):
    labeller = make(images, copied, resume=True)
    labeller.align()
    labeller.register()
    made, subsets = [], []
    original = labeller.label
    labeller.label = lambda number: (made.append(number), original(number))[1]
    sampler = StreamSampler(images, 4)
    engine = Engine(lambda engine, batch: subsets.append(list(sampler.subset)))
    engine.data_loader = SimpleNamespace(sampler=sampler)
    LabellingRounds(labeller, rounds=2).attach(engine)
    engine.run([0], max_epochs=5)
    assert made == [2]  # round 1 is what `register` made; 5 epochs are 3 + 2
    assert len(subsets) == 5 and subsets[0] == done.training_indices()
    assert all(2 in subset for subset in subsets)


def test_a_resumed_run_enters_the_round_of_its_epoch(done, images):
    labeller = make(images, done.root, resume=True)
    made = []
    labeller.label = lambda number: made.append(number)
    labeller.training_indices = lambda: [2, 3]
    sampler = StreamSampler(images, 4)
    handler = LabellingRounds(labeller, rounds=2)
    loader = SimpleNamespace(sampler=sampler)
    handler.start_round(SimpleNamespace(state=SimpleNamespace(epoch=4, max_epochs=4), data_loader=loader))
    assert made == [2] and sampler.subset == [2, 3]


def test_no_rounds_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        LabellingRounds(None, rounds=0)


def test_targets_are_the_pseudo_label_or_the_aligned_atlas(done, images):
    item = images[0]
    offline = transforms_module.AddTargetsd(done)(item)
    assert torch.equal(offline["pseudo_label"], done.labels.load("case_0")["label"])
    online = transforms_module.AddTargetsd(done, online=True)(item)
    assert online["moving"].shape == (1, *SIZE) and online["moving_label"].shape == (3, *SIZE)
    assert "pseudo_label" not in online and set(item) == {"case", "image"}
    own = transforms_module.AddAlignedAtlasd(done)(images[2])
    torch.testing.assert_close(own["moving"], images[2]["image"], rtol=0, atol=1e-4)


def test_beyond_a_scan_nothing_is_labelled(tmp_path):
    """The atlas ends in slice 11 of 16 and another in slice 9, both within the structures; edges are repeated."""
    images = Images()
    ends = {ATLAS: 12, "case_0": 10}
    for item in images.items:
        end = ends.get(item["case"])
        if end is not None:
            item["image"][..., end:] = item["image"][..., end - 1 : end]
            item["image"] = shorter_scan(item["image"], 0, end)
    images.truth[ATLAS][..., 12:] = 0
    labeller = make(images, tmp_path, instance_steps=3, bridges=2, refine_intensity=1.0)
    labeller.align()
    labeller.register()
    labeller.label(2)
    for case in ("case_0", "case_1", "case_3", "case_4"):
        for bank in (labeller.handed, labeller.labels):
            if case not in bank:
                continue
            share = bank.load(case)["label"].sum(0)
            assert share[..., 10 if case == "case_0" else 16 :].sum() == 0
            known = share[
                ..., :8
            ]  # an affine may take a corner of the grid beyond the atlas, which knows nothing there
            assert ((known - 1).abs() < 0.01).float().mean() > 0.9 and ((known < 0.01) | (known > 0.99)).all()
        assert labeller.labels.load(case)["label"][1:, ..., 8].sum() > 0
    batch = transforms_module.AddAlignedAtlasd(labeller)(images.items[0])
    assert batch["inside"].shape == (1, *SIZE) and batch["inside"].sum() == SIZE[0] * SIZE[1] * 10
