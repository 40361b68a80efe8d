from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from common.atlas import bridges as bridges_module
from common.atlas import labeller as labeller_module
from support.atlas.labeller import ATLAS, SIZE, Images, dice, make, phantom


@pytest.fixture(scope="module")
def images():
    return Images()


def test_the_most_similar_cases_are_bridges_and_names_break_ties():
    similarity = {"a": 0.2, "c": 0.9, "b": 0.9, "d": 0.5}
    assert bridges_module.choose_bridges(similarity, 3) == ["b", "c", "d"]
    assert bridges_module.choose_bridges(similarity, 9) == ["b", "c", "d", "a"]


def test_a_label_is_handed_on_along_the_registration():
    image, label = phantom()
    moved = torch.roll(torch.cat([image, label]), (3, 2), dims=(1, 2))
    handed = bridges_module.hand_on(moved[None, :1], image[None], label[None], steps=20)
    assert handed.shape == (3, *SIZE) and not handed.requires_grad
    assert dice(handed, moved[1:]) > 0.9 > dice(label, moved[1:]) + 0.1


def test_a_vote_is_the_mean_and_says_how_far_it_is_agreed():
    one, other = (F.one_hot(torch.tensor([[[0, 1, 1, last]]]), 2).permute(3, 0, 1, 2).float() for last in (1, 0))
    fused, agreed = bridges_module.vote([one, one, other], [1])
    torch.testing.assert_close(fused[1].flatten(), torch.tensor([0.0, 1.0, 1.0, 2 / 3]))
    assert agreed == {1: pytest.approx((1 + 1 + 4 / 5) / 3)}


def test_bridges_vote_on_all_cases_but_themselves(images, tmp_path, monkeypatch):
    asked = []

    def say_body_everywhere(fixed, image, label, steps, inside):
        asked.append((float(fixed.sum()), float(image.sum())))
        return torch.stack([torch.zeros(SIZE), torch.ones(SIZE), torch.zeros(SIZE)])

    monkeypatch.setattr(labeller_module, "hand_on", say_body_everywhere)
    labeller = make(images, tmp_path, instance_steps=1, bridges=2)
    labeller.align()
    labeller.register()
    assert len(asked) == 2 * 4 - 2 and all(fixed != image for fixed, image in asked)
    similarity = {f"case_{i}": labeller.registered[0].similarity(f"case_{i}") for i in (0, 1, 3, 4)}
    chosen = bridges_module.choose_bridges(similarity, 2)
    direct = make(images, tmp_path / "direct", instance_steps=1)
    direct.align()
    direct.register()
    for case in similarity:
        judged = labeller.handed.judgement(case)
        assert judged["voters"] == (1 if case in chosen else 2)
        alone, fused = (one.labels.load(case)["label"] for one in (direct, labeller))
        torch.testing.assert_close(fused[1], (alone[1] + judged["voters"]) / (1 + judged["voters"]), rtol=0, atol=2e-3)
        found = labeller.labels.judgement(case)
        assert found["by_label"] == judged["by_label"] and set(found["by_label"]) == {"1", "2"}
        assert found["quality"] == pytest.approx(sum(judged["by_label"].values()) / 2)
    assert ATLAS not in labeller.handed
    asked.clear()
    again = make(images, tmp_path, instance_steps=1, bridges=2, resume=True)
    again.align()
    again.register()
    assert not asked and again.selected == labeller.selected


@pytest.mark.parametrize(("confirmation", "kept"), [(0.0, True), (1.1, False)])
def test_a_confirmed_label_is_kept_and_another_is_joined(images, tmp_path, monkeypatch, confirmation, kept):
    sharpened = []
    monkeypatch.setattr(labeller_module, "hand_on", lambda fixed, image, label, *rest: label[0])
    monkeypatch.setattr(
        labeller_module, "refine_by_intensity", lambda image, label, weight: (sharpened.append(weight), label)[1]
    )
    options = {"instance_steps": 1, "bridges": 1, "confirmation": confirmation, "refine_intensity": 0.5}
    labeller = make(images, tmp_path, **options)
    labeller.align()
    labeller.register()
    bridge = labeller.bridge_volumes()[0][0]
    assert bridge not in labeller.handed
    for item in images.items:
        case = item["case"]
        if case in (ATLAS, bridge):
            continue
        known, handed = labeller.registered[0].bank.load(case), labeller.handed.load(case)["label"]
        direct, _ = labeller.atlas.propagate(known["affine"][None], known["instance"], labeller.inside(item["image"]))
        wanted = direct if kept else (direct + handed) / 2
        torch.testing.assert_close(labeller.labels.load(case)["label"], wanted, rtol=0, atol=2e-3)
    assert sharpened == [0.5] * (4 if kept else 1)  # a vote is not sharpened; the bridge has none
