"""Interrupted runs of ADA-SAM go on where they were and end as if nothing had happened."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.bundle.resumed import curves, kill_and_resume, quick_and_slow, run_in_a_piece
from support.bundle.run import ADA, assert_same_weights, subset_cohort
from support.networks.tiny_sam import use_tiny_sam

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
LONG |= {"dense_prompt": "patch_map"}


@pytest.fixture(scope="module")
def resume_cohort(tiny_cohort, tmp_path_factory) -> Path:
    return subset_cohort(tiny_cohort, tmp_path_factory.mktemp("ada_resume"), training=3)


@pytest.fixture(scope="module")
def uninterrupted(resume_cohort, tmp_path_factory) -> dict:
    return run_in_a_piece(ADA, tmp_path_factory.mktemp("uninterrupted"), resume_cohort, use_tiny_sam, **LONG)


@pytest.mark.parametrize("kill", quick_and_slow(KILLS, QUICK))
def test_resumed_run_ends_bit_for_bit_as_one_in_a_piece(kill, uninterrupted, resume_cohort, tmp_path, monkeypatch):
    use_tiny_sam(monkeypatch, tmp_path / "weights")
    flow = kill_and_resume(ADA, KILLS[kill], tmp_path, resume_cohort, monkeypatch, **LONG)
    assert curves(flow) == uninterrupted["curves"]
    assert list(curves(flow)) == ["classify", "adapt", "slice_unet", "train"]
    for name in ("ada_sam.pt", "model.pt"):
        assert_same_weights(tmp_path / "ckpt" / name, uninterrupted["folder"] / name)
    small = [folder / "ada_sam.safetensors" for folder in (tmp_path / "ckpt", uninterrupted["folder"])]
    assert small[0].read_bytes() == small[1].read_bytes()
