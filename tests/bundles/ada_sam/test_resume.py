"""Interrupted runs of ADA-SAM go on where they were and end as if nothing had happened."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigWorkflow

from support.ada_sam.fake import use_tiny_sam
from support.bundle.kill import kill_at, was_killed
from support.bundle.run import ADA, assert_same_weights, subset_cohort

KILLS = {
    "classify": ("classify", 2, "before"),
    "after classify": ("classify", 2, "after"),
    "adapt": ("adapt", 1, "after"),
    "after adapt": ("adapt", 2, "after"),
    "slice_unet": ("slice_unet", 1, "after"),
    "pseudo labels": ("labels", 2, ""),
    "segmenter": ("train", 1, "after"),
    "the end": ("train", 2, "after"),
}
QUICK = ("adapt",)
LONG = {"classify_epochs": 2, "save_every": 1, "dropout": 0.1, "batch_size": 1, "feedback": True}


@pytest.fixture(scope="module")
def resume_cohort(tiny_cohort, tmp_path_factory) -> Path:
    return subset_cohort(tiny_cohort, tmp_path_factory.mktemp("ada_resume"), training=3)


@pytest.fixture(scope="module")
def uninterrupted(resume_cohort, tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("uninterrupted")
    with pytest.MonkeyPatch.context() as patch:
        use_tiny_sam(patch, folder / "weights")
        flow, _ = ADA.run(["train.json"], folder, resume_cohort, **LONG)
    return {"folder": folder / "ckpt", "curves": curves(flow)}


def curves(flow: ConfigWorkflow) -> dict[str, dict]:
    trainers = flow.parser.get_parsed_content("plan").trainers
    assert list(trainers) == ["classify", "adapt", "slice_unet", "train"]
    return {stage: trainer.progress.history for stage, trainer in trainers.items()}


@pytest.mark.parametrize(
    "kill", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in KILLS]
)
def test_resumed_run_ends_bit_for_bit_as_one_in_a_piece(kill, uninterrupted, resume_cohort, tmp_path, monkeypatch):
    use_tiny_sam(monkeypatch, tmp_path / "weights")
    with monkeypatch.context() as patch, pytest.raises(BaseException) as error:
        kill_at(ADA.name, patch, *KILLS[kill])
        ADA.run(["train.json"], tmp_path, resume_cohort, **LONG)
    assert was_killed(error.value)
    assert not (tmp_path / "ckpt" / "model.pt").exists()
    torch.manual_seed(int(time.time()))  # nothing may hang on where the interrupted run left the generators
    flow, _ = ADA.run(["train.json"], tmp_path, resume_cohort, **LONG, resume="true")
    assert curves(flow) == uninterrupted["curves"]
    for name in ("ada_sam.pt", "model.pt"):
        assert_same_weights(tmp_path / "ckpt" / name, uninterrupted["folder"] / name)
    small = [folder / "ada_sam.safetensors" for folder in (tmp_path / "ckpt", uninterrupted["folder"])]
    assert small[0].read_bytes() == small[1].read_bytes()
    manifest = json.loads((tmp_path / "output" / "run.json").read_text(encoding="utf-8"))
    assert manifest["times_resumed"] == 1 and manifest["resumes"][0]["changed"] == []
