"""Labels from registration in SemiSAM+: what they open, teach and leave, that off is off, and resumed runs."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from support.bundle.path import import_bundle
from support.bundle.resumed import curves, kill_and_resume, quick_and_slow, run_in_a_piece
from support.bundle.run import SEMISAM, assert_same_weights, files_opened, subset_cohort, weights

module = import_bundle("semisam_plus", "pseudo_labels.registration")
QUICKLY = {f"registered#{name}_steps": 2 for name in ("instance", "coarse", "bridge")}
ON = {"labels_from_registration": "true", **QUICKLY}
# two steps of an optimiser don't reach all
FORCED = {**ON, "registered#keep": 1.0, "num_labeled": 1}


@pytest.fixture(scope="module")
def cohort(tiny_cohort, tmp_path_factory) -> Path:
    return subset_cohort(tiny_cohort, tmp_path_factory.mktemp("registered_cohort"), training=4, test=1)


@pytest.fixture(autouse=True)
def all_reached(monkeypatch):
    """Let labels that hardly agree count as reached: those here are of a few steps."""
    monkeypatch.setattr(import_bundle("semisam_plus", "common.atlas.reached"), "REACHED", 0.0)


def test_a_run_learns_from_registration_and_opens_no_other_label(cohort, tmp_path):
    with files_opened() as opened:
        flow, said = SEMISAM.run(["train.json"], tmp_path, cohort, **ON, epochs=2)
    labelled = flow.parser.get_parsed_content("cohort").labeled
    dataset = json.loads((cohort / "dataset.json").read_text(encoding="utf-8"))
    training = {os.path.realpath(cohort / case["label"]) for case in dataset["training"]}
    assert set(opened) & training == {os.path.realpath(case["label"]) for case in labelled} and len(labelled) == 2
    history = dict(flow.parser.get_parsed_content("train#trainer").progress.history["pseudo_label"])
    assert history[1] > 0 and history[2] > 0
    assert "2 atlases: of 2 scans labels reach" in " ".join(said.split())
    manifest = json.loads((tmp_path / "output" / "run.json").read_text(encoding="utf-8"))
    assert list(manifest["stages"])[:3] == ["load volumes", "affine", "registration"]
    assert manifest["results"]["registered"] == 2  # of so few no half is left out
    noted = manifest["config"]["registered"]
    assert noted["bridges"] == 0 and noted["coarse_steps"] == 2 and noted["keep"] == 0.5
    assert manifest["config"]["train"]["objective"]["pseudo_label_weight"] == 0.5


def test_off_it_leaves_nothing_and_without_weight_it_changes_nothing(cohort, tmp_path):
    off, _ = SEMISAM.run(["train.json"], tmp_path / "off", cohort, epochs=1)
    assert "registration" not in off.parser.get_parsed_content("train#trainer").state.losses
    assert not list((tmp_path / "off").rglob("*.safetensors"))
    manifest = json.loads((tmp_path / "off" / "output" / "run.json").read_text(encoding="utf-8"))
    assert "registered" not in {**manifest["config"], **manifest["results"]} and "affine" not in manifest["stages"]
    SEMISAM.run(["train.json"], tmp_path / "on", cohort, **ON, epochs=1, pseudo_label_weight=0)
    assert_same_weights(tmp_path / "off" / "ckpt" / "model.pt", tmp_path / "on" / "ckpt" / "model.pt")
    SEMISAM.run(["train.json"], tmp_path / "learnt", cohort, **ON, epochs=1, **{"registered#keep": 1.0})
    first, other = (weights(tmp_path / name / "ckpt" / "model.pt") for name in ("off", "learnt"))
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_of_many_cases_some_are_registered_to_all_over_the_list(tmp_path):
    others = [{"case": f"other_{i:03d}"} for i in range(100)]
    images = [{"case": case["case"]} for case in [{"case": "0"}, *others]]
    for labelled, asked in ((1, 100), (4, 40), (200, 1)):
        cohort = SimpleNamespace(labeled=[{"case": f"{i}"} for i in range(labelled)], unlabeled=others)
        found = module.RegistrationLabels(True, cohort, images, None, str(tmp_path))
        found.__dict__["registered"] = []
        assert len(found.unlabeled) == asked and {item["case"] for item in found._unlabeled()} == found.unlabeled
        places = sorted(int(name[-3:]) for name in found.unlabeled)
        assert {b - a for a, b in pairwise(places)} <= {100 // asked, 100 // asked + 1}


@pytest.mark.parametrize(
    ("wanted", "labelled", "on"),
    [
        (None, module.MOST_LABELLED, module.MOST_LABELLED > 0),
        ("null", module.MOST_LABELLED + 1, False),
        (None, 0, False),
        (True, 9, True),
        ("true", 0, False),
        (False, 1, False),
    ],
)
def test_null_is_on_for_few_labelled_cases(tmp_path, wanted, labelled, on):
    cohort = SimpleNamespace(labeled=[{"case": f"{i}"} for i in range(labelled)], unlabeled=[{"case": "other"}])
    found = module.RegistrationLabels(wanted, cohort, [], None, str(tmp_path))
    assert found.on == on and found.bridges == (module.BRIDGES if labelled == 1 else 0)
    cohort.unlabeled = []
    assert not module.RegistrationLabels(True, cohort, [], None, str(tmp_path)).on


def test_labels_that_reach_nothing_are_not_learnt_from_and_end_no_run(tmp_path, capsys):
    labels = {0: "background", 5: "organ"}
    cohort = SimpleNamespace(labeled=[{"case": "a"}], unlabeled=[{"case": "b"}, {"case": "c"}], labels=labels)
    for best, selected in ((0.2, []), (0.8, ["b"])):
        found = module.RegistrationLabels(True, cohort, [], None, str(tmp_path))
        found.__dict__["registered"] = [SimpleNamespace(atlas=SimpleNamespace(case="a"))]
        found.judged = lambda best=best: {"b": {"1": best}, "c": {"1": 0.1}}
        found.selected = ["b"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(import_bundle("semisam_plus", "common.atlas.reached"), "REACHED", 0.5)
            found.tell()
        assert found.selected == selected and found.load("c") is None
        assert ("nothing is learnt from registration" in capsys.readouterr().out) == (not selected)


# --- interrupted runs

KILLS = {"registrations": ("registration", 2, ""), "labels": ("round_1", 2, ""), "epoch 2": ("train", 2, "before")}
LONG = {**FORCED, "epochs": 3, "save_every": 1, "dropout": 0.1}


@pytest.fixture(scope="module")
def uninterrupted(cohort, tmp_path_factory) -> dict:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(import_bundle("semisam_plus", "common.atlas.reached"), "REACHED", 0.0)
        return run_in_a_piece(SEMISAM, tmp_path_factory.mktemp("uninterrupted"), cohort, lambda *_: None, **LONG)


@pytest.mark.parametrize("kill", quick_and_slow(KILLS, ("labels",)))
def test_resumed_run_ends_bit_for_bit_as_one_in_a_piece(kill, uninterrupted, cohort, tmp_path, monkeypatch):
    flow = kill_and_resume(SEMISAM, KILLS[kill], tmp_path, cohort, monkeypatch, **LONG)
    assert curves(flow) == uninterrupted["curves"]
    assert_same_weights(tmp_path / "ckpt" / "model.pt", uninterrupted["folder"] / "model.pt")
