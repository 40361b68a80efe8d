"""nnU-Net's trainer with a budget of CPU time: when it ends, and how the rate falls; nnU-Net is a stand-in."""

from __future__ import annotations

import itertools
import json
import sys
import types
from pathlib import Path

import pytest
import torch

from benchmarks.nnunet.peer import TRAINER, TRAINER_FILE


class Upstream:
    """What the trainer uses of nnU-Net's, with steps that are noted."""

    initial_lr, batch_size = 0.01, 2

    def __init__(self, folder: Path) -> None:
        self.output_folder, self.network = str(folder), torch.nn.Conv3d(1, 2, 1)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=self.initial_lr)
        self.dataloader_train = itertools.repeat({})
        self.configuration_manager = types.SimpleNamespace(patch_size=(8, 16, 16), spacing=(2.0, 2.0, 2.0))
        self.rates: list[float] = []
        self.ended = False

    def on_train_start(self) -> None: ...

    def on_train_end(self) -> None:
        self.ended = True

    def print_to_log_file(self, line: str) -> None: ...

    def train_step(self, batch: dict) -> dict:
        self.rates.append(self.optimizer.param_groups[0]["lr"])
        return {"loss": torch.tensor(1.0)}


@pytest.fixture
def trainer(tmp_path, monkeypatch):
    parents = [".".join(["nnunetv2", "training", "nnUNetTrainer", "nnUNetTrainer"][:depth]) for depth in (1, 2, 3, 4)]
    for name in parents:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules[parents[-1]].nnUNetTrainer = Upstream
    module = types.ModuleType("trainer")
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    exec(compile(TRAINER_FILE.read_text(encoding="utf-8"), TRAINER_FILE, "exec"), module.__dict__)
    seconds = itertools.count()  # a step takes one second of CPU time
    monkeypatch.setattr(module.time, "process_time", lambda: float(next(seconds)))
    monkeypatch.setenv("CPU_SECONDS", "4")
    return getattr(module, TRAINER)(tmp_path)


def test_it_ends_when_the_cpu_time_is_spent_and_the_rate_falls_to_nothing(trainer, tmp_path):
    trainer.run_training()
    assert trainer.rates == pytest.approx([0.01 * (1 - spent / 4) ** 0.9 for spent in range(4)])
    said = json.loads((tmp_path / "cpu_seconds.json").read_text())
    assert (said["cpu_seconds"], said["steps"], said["patch_size"]) == (4, 4, [8, 16, 16])
    assert trainer.ended and trainer.optimizer.param_groups[0]["lr"] > 0
