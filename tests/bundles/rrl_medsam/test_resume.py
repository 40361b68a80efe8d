"""Interrupted runs of RRL-MedSAM go on where they were and end as if nothing had happened."""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path

import pytest

from support.bundle.resumed import curves, kill_and_resume, quick_and_slow, run_in_a_piece
from support.bundle.run import RRL, assert_same_weights, command, subset_cohort, use_fake_sam

KILLS = {
    "distill": ("distill", 2, "before"),
    "register": ("register", 1, "after"),
    "labels of round 1": ("round_1", 2, ""),
    "round 1": ("train", 2, "before"),
    "labels of round 2": ("round_2", 2, ""),
    "round 2": ("train", 4, "before"),
    "after the last epoch": ("train", 4, "after"),
}
QUICK = ("labels of round 2",)
LONG = {"epochs": 4, "epoch_length": 3, "distill_epochs": 2, "register_epochs": 2, "save_every": 1, "sam": "mobile_sam"}
LONG |= {"ema_every": 2, "distillation_weight": 0.1, "dropout": 0.1}


@pytest.fixture(scope="module")
def resume_cohort(tiny_cohort, tmp_path_factory) -> Path:
    return subset_cohort(tiny_cohort, tmp_path_factory.mktemp("resume_cohort"), training=4)


@pytest.fixture(scope="module")
def uninterrupted(resume_cohort, tmp_path_factory) -> dict:
    return run_in_a_piece(RRL, tmp_path_factory.mktemp("uninterrupted"), resume_cohort, use_fake_sam, **LONG)


@pytest.mark.parametrize("kill", quick_and_slow(KILLS, QUICK))
def test_resumed_run_ends_bit_for_bit_as_one_in_a_piece(kill, uninterrupted, resume_cohort, tmp_path, monkeypatch):
    use_fake_sam(monkeypatch, tmp_path)
    flow = kill_and_resume(RRL, KILLS[kill], tmp_path, resume_cohort, monkeypatch, **LONG)
    assert curves(flow) == uninterrupted["curves"]
    assert_same_weights(tmp_path / "ckpt" / "model.pt", uninterrupted["folder"] / "model.pt")
    assert [epoch for epoch, _ in curves(flow)["train"]["loss"]] == [1, 2, 3, 4]


@pytest.mark.slow
def test_a_process_killed_outright_goes_on(resume_cohort, tmp_path):
    bundle = RRL.copy(tmp_path / "bundle")
    options = RRL.flags(dataset_dir=resume_cohort, epochs=6, epoch_length=3, save_every=1)
    whole = command(["configs/train.json"], *options, "--ckpt_dir", str(tmp_path / "whole"), cwd=bundle)
    said, complaints = whole.communicate(timeout=600)
    assert whole.returncode == 0, complaints + said
    shutil.rmtree(bundle / "cache")
    killed = command(["configs/train.json"], *options, cwd=bundle)
    deadline = time.time() + 120
    while not (bundle / "models" / "train.checkpoint.pt.previous").exists() and time.time() < deadline:
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not (bundle / "models" / "model.pt").exists()
    resumed = command(["configs/train.json"], *options, "--resume", "true", cwd=bundle)
    said, complaints = resumed.communicate(timeout=600)
    assert resumed.returncode == 0, complaints + said
    assert_same_weights(bundle / "models" / "model.pt", tmp_path / "whole" / "model.pt")
