"""Interrupted runs of WeakMedSAM go on where they were and end as if nothing had happened."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.bundle.resumed import curves, kill_and_resume, quick_and_slow, run_in_a_piece
from support.bundle.run import WEAK, assert_same_weights, subset_cohort
from support.process.kill import kill_at, was_killed
from support.weakmedsam.fake import use_fake_backbone

KILLS = {
    "classify": ("classify", 2, "before"),
    "after classify": ("classify", 2, "after"),
    "priors": ("prior", 2, ""),
    "labels of round 1": ("round_1", 2, ""),
    "labels of round 2": ("round_2", 2, ""),
    "in round 1": ("appearance", 1, "after"),
    "in round 2": ("appearance", 3, "after"),
    "final labels": ("labels", 2, ""),
    "segmenter": ("train", 1, "after"),
    "the end": ("train", 2, "after"),
}
QUICK = ("in round 2",)
LONG = {"backbone": "mobile_sam", "prior": "cam", "classify_epochs": 2, "appearance_epochs": 2, "rounds": 2}
LONG |= {"save_every": 1, "dropout": 0.1, "batch_size": 1}


@pytest.fixture(scope="module")
def resume_cohort(tiny_cohort, tmp_path_factory) -> Path:
    return subset_cohort(tiny_cohort, tmp_path_factory.mktemp("weak_resume"), training=3)


@pytest.fixture(scope="module")
def uninterrupted(resume_cohort, tmp_path_factory) -> dict:
    return run_in_a_piece(WEAK, tmp_path_factory.mktemp("uninterrupted"), resume_cohort, use_fake_backbone, **LONG)


@pytest.mark.parametrize("kill", quick_and_slow(KILLS, QUICK))
def test_resumed_run_ends_bit_for_bit_as_one_in_a_piece(kill, uninterrupted, resume_cohort, tmp_path, monkeypatch):
    use_fake_backbone(monkeypatch, tmp_path / "weights")
    flow = kill_and_resume(WEAK, KILLS[kill], tmp_path, resume_cohort, monkeypatch, **LONG)
    assert curves(flow) == uninterrupted["curves"]
    assert list(curves(flow)) == ["classify", "appearance", "train"]
    assert_same_weights(tmp_path / "ckpt" / "model.pt", uninterrupted["folder"] / "model.pt")


def test_a_case_rejected_after_a_look_is_left_out_on_resuming(resume_cohort, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(BaseException) as error:
        kill_at(WEAK.name, patch, "train", 1, "before")
        WEAK.run(["train.json"], tmp_path, resume_cohort)
    assert was_killed(error.value) and (tmp_path / "output" / "pseudo_labels" / "report.html").exists()
    content = json.loads((resume_cohort / "dataset.json").read_text(encoding="utf-8"))
    (resume_cohort / "reject.json").write_text(json.dumps({**content, "reject": ["sample_000"]}))
    flow, said = WEAK.run(["train.json"], tmp_path, resume_cohort, resume="true", datalist="reject.json")
    assert "1 rejected" in said
    trainers = flow.parser.get_parsed_content("plan").trainers
    assert all(trainers[name].data_loader.sampler.subset == [1, 2] for name in ("appearance", "train"))
