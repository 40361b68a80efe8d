"""A run that is killed and gone on with, and what it has to have in common with one in a piece."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigWorkflow

from support.bundle.run import BundleRun
from support.process.kill import kill_at, was_killed


def quick_and_slow(kills: Mapping[str, Any], quick: tuple[str, ...]) -> list[Any]:
    """Return the places to kill at as parameters of a test; what isn't quick is marked slow."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in kills]


def curves(flow: ConfigWorkflow) -> dict[str, dict]:
    """Return stage -> curve -> what it was in each epoch, of all stages of a run in their order."""
    trainers = flow.parser.get_parsed_content("plan").trainers
    return {name: trainer.progress.history for name, trainer in trainers.items()}


def run_in_a_piece(
    bundle: BundleRun, folder: Path, data: Path, use_models: Callable[[pytest.MonkeyPatch, Path], Any], **settings: Any
) -> dict[str, Any]:
    """Return where the models of an uninterrupted run are, and its curves; `use_models` puts small ones in place."""
    with pytest.MonkeyPatch.context() as patch:
        use_models(patch, folder / "weights")
        flow, _ = bundle.run(["train.json"], folder, data, **settings)
    return {"folder": folder / "ckpt", "curves": curves(flow)}


def kill_and_resume(
    bundle: BundleRun, place: tuple[str, int, str], folder: Path, data: Path, patch: pytest.MonkeyPatch, **settings: Any
) -> ConfigWorkflow:
    """Return a run that was killed at a place (see `kill_at`) and resumed."""
    with patch.context() as killing, pytest.raises(BaseException) as error:
        kill_at(bundle.name, killing, *place)
        bundle.run(["train.json"], folder, data, **settings)
    assert was_killed(error.value)
    assert not (folder / "ckpt" / "model.pt").exists()
    torch.manual_seed(int(time.time()))  # nothing may hang on where the interrupted run left the generators
    flow, _ = bundle.run(["train.json"], folder, data, **settings, resume="true")
    manifest = json.loads((folder / "output" / "run.json").read_text(encoding="utf-8"))
    assert manifest["times_resumed"] == 1 and manifest["resumes"][0]["changed"] == []
    return flow
