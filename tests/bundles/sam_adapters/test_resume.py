"""Interrupted runs of the SAM adapters go on where they were and end as if nothing had happened."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from support.bundle.resumed import curves, kill_and_resume, quick_and_slow, run_in_a_piece
from support.bundle.run import ADAPTERS, assert_same_weights, subset_cohort
from support.networks.tiny_sam import use_tiny_sam

KILLS = {
    "adapt": ("adapt", 1, "after"),
    "after adapt": ("adapt", 2, "after"),
    "pseudo labels": ("labels", 2, ""),
    "light network": ("train", 1, "after"),
    "the end": ("train", 2, "after"),
}
# the second stage's share and its noise hang on the step
LONG = {"decoder": "hierarchical", "depth": None, "save_every": 1, "dropout": 0.1}
# prompts are drawn, and what decoders teach each other hangs on the step
CROSS = {"decoder": "tokens", "depth": None, "save_every": 1, "decoders": 2, "cross_prompting": True, "cross_from": 0.2}
USE = partial(use_tiny_sam, bundle=ADAPTERS.name)


@pytest.fixture(scope="module")
def cohort(tiny_cohort, tmp_path_factory) -> Path:
    return subset_cohort(tiny_cohort, tmp_path_factory.mktemp("adapters_resume"), training=5)


@pytest.fixture(scope="module")
def uninterrupted(cohort, tmp_path_factory) -> dict:
    return run_in_a_piece(ADAPTERS, tmp_path_factory.mktemp("uninterrupted"), cohort, USE, **LONG)


@pytest.mark.parametrize("kill", quick_and_slow(KILLS, ("adapt",)))
def test_resumed_run_ends_bit_for_bit_as_one_in_a_piece(kill, uninterrupted, cohort, tmp_path, monkeypatch):
    USE(monkeypatch, tmp_path / "weights")
    flow = kill_and_resume(ADAPTERS, KILLS[kill], tmp_path, cohort, monkeypatch, **LONG)
    assert curves(flow) == uninterrupted["curves"] and list(curves(flow)) == ["adapt", "train"]
    assert_same_weights(tmp_path / "ckpt" / "model.pt", uninterrupted["folder"] / "model.pt")


def test_two_decoders_that_are_killed_end_bit_for_bit_as_in_a_piece(cohort, tmp_path, monkeypatch):
    whole = run_in_a_piece(ADAPTERS, tmp_path / "whole", cohort, USE, **CROSS)
    USE(monkeypatch, tmp_path / "weights")
    flow = kill_and_resume(ADAPTERS, KILLS["adapt"], tmp_path, cohort, monkeypatch, **CROSS)
    assert curves(flow) == whole["curves"] and all(value > 0 for _, value in curves(flow)["adapt"]["cross"])
    assert_same_weights(tmp_path / "ckpt" / "model.pt", whole["folder"] / "model.pt")
