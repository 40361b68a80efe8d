"""Self-training in SemiSAM+: what a first network says, joined with registration, what it opens, and resumed runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from support.bundle.path import import_bundle
from support.bundle.resumed import curves, kill_and_resume, quick_and_slow, run_in_a_piece
from support.bundle.run import SEMISAM, assert_same_weights, files_opened, subset_cohort, weights

module = import_bundle("semisam_plus", "pseudo_labels.self_training")
Grid = import_bundle("semisam_plus", "common.grid.grid").Grid
ON = {"self_training": "true"}
SIZE = (4, 4, 4)


def given(labelled=1, unlabelled=2, federated=False, registered=False, **options) -> SimpleNamespace:
    """Return labels from registration, off or on, of a cohort of so many cases."""
    cohort = SimpleNamespace(
        labeled=[{"case": f"labelled_{i}"} for i in range(labelled)],
        unlabeled=[{"case": f"other_{i}"} for i in range(unlabelled)],
        federated=federated,
        grid=Grid(SIZE, (1, 1, 1), (0, 1)),
    )
    images = [{"case": case["case"], "image": torch.zeros(1, *SIZE)} for case in cohort.labeled + cohort.unlabeled]
    return SimpleNamespace(on=registered, cohort=cohort, images=images, device="cpu", resume=False, **options)


def halves(image, network):
    """Return log-probabilities that say .8 of class 1 everywhere."""
    return torch.tensor([0.2, 0.8]).log().view(1, 2, 1, 1, 1).expand(1, 2, *SIZE)


@pytest.mark.parametrize(
    ("wanted", "cohort", "on"),
    [
        (None, {}, True),
        ("null", {}, True),
        (None, {"federated": True}, False),
        ("true", {"federated": True}, True),
        (True, {"labelled": 0}, False),
        (True, {"unlabelled": 0}, False),
        (False, {}, False),
    ],
)
def test_null_is_on_where_cases_with_and_without_label_are(tmp_path, wanted, cohort, on):
    found = module.PseudoLabels(wanted, given(**cohort), halves, str(tmp_path))
    assert found.self_training == found.on == on
    both = module.PseudoLabels(wanted, given(**cohort, registered=True), halves, str(tmp_path))
    assert both.on and both.self_training == on


def registered_to(case, label, quality, selected) -> SimpleNamespace:
    """Return labels from registration of one of two unlabelled cases."""
    bank = SimpleNamespace(load=lambda name: {"label": label})
    return given(
        registered=True, labels=bank, selected=selected, unlabeled={case}, present=[1], quality=lambda: {case: quality},
        load=lambda name: label if name in selected else None,
    )  # fmt: skip


def test_a_label_is_the_mean_of_network_and_registration_where_that_knows(tmp_path, capsys):
    label = torch.zeros(2, *SIZE)
    label[1, :2] = 1  # nothing is known of the other half; Dice of 32 voxels with the network's 64: 2/3
    found = module.PseudoLabels(True, registered_to("other_1", label, 0.66, ["other_1"]), halves, str(tmp_path))
    assert found.load("other_0") is None and found.selected == []
    found.make(nn.Identity())
    said = capsys.readouterr().out
    assert found.joined and "by a Dice of 0.67, these with one another by 0.66: it joins them" in said
    assert found.selected == ["other_0", "other_1"] and found.load("labelled_0") is None
    for case, place, wanted in (("other_1", 0, 0.9), ("other_1", 3, 0.8), ("other_0", 0, 0.8)):
        said = found.load(case)[:, place, 0, 0]
        torch.testing.assert_close(said, torch.tensor([1 - wanted, wanted]), atol=1e-3, rtol=0)


def test_a_network_that_knows_less_than_registrations_has_no_say(tmp_path, capsys):
    label = torch.zeros(2, *SIZE)
    label[1, :2] = 1
    found = module.PseudoLabels(True, registered_to("other_1", label, 0.67, ["other_1"]), halves, str(tmp_path))
    found.make(nn.Identity())
    assert found.joined is False and "it is left out" in capsys.readouterr().out
    assert found.selected == ["other_1"] and found.load("other_0") is None and found.load("other_1") is label


def test_registrations_that_reach_nobody_have_no_say(tmp_path, capsys):
    found = module.PseudoLabels(True, registered_to("other_1", torch.ones(2, *SIZE), 1.0, []), halves, str(tmp_path))
    found.make(nn.Identity())
    assert found.joined is None and "plain network" not in capsys.readouterr().out
    torch.testing.assert_close(found.load("other_1")[:, 0, 0, 0], torch.tensor([0.2, 0.8]), atol=1e-3, rtol=0)


def test_without_self_training_labels_are_those_from_registration(tmp_path):
    label = torch.rand(2, *SIZE)
    registered = given(registered=True, selected=["other_1"], load=lambda case: label if case == "other_1" else None)
    found = module.PseudoLabels(False, registered, halves, str(tmp_path))
    assert found.on and found.selected == ["other_1"]
    assert found.load("other_1") is label and found.load("other_0") is None


# --- whole runs


@pytest.fixture(scope="module")
def cohort(tiny_cohort, tmp_path_factory) -> Path:
    return subset_cohort(tiny_cohort, tmp_path_factory.mktemp("self_training_cohort"), training=4, test=1)


def test_a_run_trains_the_plain_network_first_and_opens_no_other_label(cohort, tmp_path):
    with files_opened() as opened:
        flow, said = SEMISAM.run(["train.json"], tmp_path, cohort, **ON, epochs=2)
    labelled = flow.parser.get_parsed_content("cohort").labeled
    dataset = json.loads((cohort / "dataset.json").read_text(encoding="utf-8"))
    training = {os.path.realpath(cohort / case["label"]) for case in dataset["training"]}
    assert set(opened) & training == {os.path.realpath(case["label"]) for case in labelled} and len(labelled) == 2
    assert dict(flow.parser.get_parsed_content("train#trainer").progress.history["pseudo_label"])[1] > 0
    assert said.index("control     epoch 2/2") < said.index("train       epoch 1/2")
    manifest = json.loads((tmp_path / "output" / "run.json").read_text(encoding="utf-8"))
    assert list(manifest["stages"])[:3] == ["load volumes", "control", "pseudo labels"]
    assert manifest["results"]["self_training"] == 2 and manifest["config"]["pseudo_labels"]["self_training"]
    assert [verdict["control"] for verdict in manifest["results"]["verdicts"]] == ["plain UNet of the same labels"]
    SEMISAM.run(["train.json"], tmp_path / "plain", cohort, epochs=2, plain_control=True)
    assert_same_weights(tmp_path / "ckpt" / "control.pt", tmp_path / "plain" / "ckpt" / "control.pt")
    first, other = (weights(folder / "ckpt" / "model.pt") for folder in (tmp_path, tmp_path / "plain"))
    assert any(not torch.equal(first[name], other[name]) for name in first)


# --- interrupted runs

KILLS = {
    "first network": ("control", 1, "after"),
    "labels": ("pseudo_labels", 1, ""),
    "epoch 2": ("train", 2, "before"),
}
LONG = {**ON, "epochs": 3, "save_every": 1, "dropout": 0.1}


@pytest.fixture(scope="module")
def uninterrupted(cohort, tmp_path_factory) -> dict:
    return run_in_a_piece(SEMISAM, tmp_path_factory.mktemp("uninterrupted"), cohort, lambda *_: None, **LONG)


@pytest.mark.parametrize("kill", quick_and_slow(KILLS, ("first network",)))
def test_resumed_run_ends_bit_for_bit_as_one_in_a_piece(kill, uninterrupted, cohort, tmp_path, monkeypatch):
    flow = kill_and_resume(SEMISAM, KILLS[kill], tmp_path, cohort, monkeypatch, **LONG)
    assert curves(flow) == uninterrupted["curves"]
    assert_same_weights(tmp_path / "ckpt" / "model.pt", uninterrupted["folder"] / "model.pt")
