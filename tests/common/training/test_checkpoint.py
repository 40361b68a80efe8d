from __future__ import annotations

import os
import pickle
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.transforms import Compose, RandGaussianNoise, RandScaleIntensity

from common.errors import InputError
from common.files.tensor_files import atomic_save, load_tensors
from common.training.checkpoint import seed_epoch

ROOT = Path(__file__).resolve().parents[3]


class Payload:
    """What an attacker would put in a checkpoint: it makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_round_trip(tmp_path):
    content = {"weight": torch.rand(3, 4), "epoch": 3, "name": "stage", "nested": [{"a": torch.arange(3)}, None, 0.5]}
    atomic_save(content, tmp_path / "new" / "model.pt")
    again = load_tensors(tmp_path / "new" / "model.pt")
    assert torch.equal(again["weight"], content["weight"]) and again["nested"][0]["a"].tolist() == [0, 1, 2]
    assert (again["epoch"], again["name"], again["nested"][1:]) == (3, "stage", [None, 0.5])


@pytest.mark.parametrize("failing", ["replace", "fsync"])
def test_a_failed_write_keeps_the_file_and_leaves_no_other(tmp_path, monkeypatch, failing):
    path = tmp_path / "model.pt"
    atomic_save({"epoch": 1}, path)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(InputError, match=r"model\.pt.*No space left"):
        atomic_save({"epoch": 2}, path)
    assert load_tensors(path) == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt"]


def test_what_cant_be_saved_keeps_the_file(tmp_path):
    path = tmp_path / "model.pt"
    atomic_save({"epoch": 1}, path)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        atomic_save({"epoch": lambda: 2}, path)
    assert load_tensors(path) == {"epoch": 1}


def test_a_process_killed_while_it_writes_leaves_a_file_that_loads(tmp_path):
    path = tmp_path / "model.pt"
    program = (
        "import torch\nfrom common.training.checkpoint import atomic_save\nepoch = 0\n"
        "while True:\n"
        f"    atomic_save({{'epoch': epoch, 'weight': torch.full((400000,), float(epoch))}}, {str(path)!r})\n"
        "    epoch += 1\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    try:
        deadline = time.monotonic() + 60
        while not path.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.3)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    content = load_tensors(path)
    assert torch.equal(content["weight"], torch.full((400000,), float(content["epoch"])))


def test_a_payload_is_refused_and_never_executed(tmp_path):
    path, made = tmp_path / "model.pt", tmp_path / "made"
    torch.save({"weight": torch.ones(1), "extra": Payload(made)}, path)
    with pytest.raises(InputError, match=r"model\.pt.*wanted a file of tensors"):
        load_tensors(path)
    assert not made.exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 half a zip"])
def test_a_broken_file_is_one_line_that_names_it(tmp_path, content):
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        load_tensors(path)
    assert len(error.value.problems) == 1 and str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "model.pt"
    atomic_save({"weight": torch.rand(1000)}, path)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(InputError, match="wanted a file of tensors"):
        load_tensors(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_tensors(tmp_path / "model.pt")


def draw(*key, transform=None, rank=0):
    seed_epoch(*key, transform=transform, rank=rank)
    noise = transform(torch.zeros(1, 2, 2, 2)).sum().item() if transform is not None else 0.0
    return random.random(), float(np.random.rand()), float(torch.rand(1)), noise


def test_seeds_depend_on_seed_stage_epoch_and_rank_and_on_nothing_else():
    transform = Compose([RandScaleIntensity(0.5, prob=1.0), Compose([RandGaussianNoise(prob=1.0)])])
    first = draw(0, "train", 3, transform=transform)
    draw(0, "train", 4, transform=transform)
    assert draw(0, "train", 3, transform=transform) == first
    others = [
        draw(1, "train", 3, transform=transform),
        draw(0, "distill", 3, transform=transform),
        draw(0, "train", 4, transform=transform),
        draw(0, "train", 3, transform=transform, rank=1),
    ]
    for other in others:
        assert all(a != b for a, b in zip(first, other, strict=True))


def test_a_single_random_transform_is_seeded_as_well():
    transform = RandGaussianNoise(prob=1.0)
    assert draw(0, "train", 1, transform=transform) == draw(0, "train", 1, transform=transform)
