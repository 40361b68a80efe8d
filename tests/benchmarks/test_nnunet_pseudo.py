"""nnU-Net with and without pseudo labels: what a row is given, what the table says; nnU-Net is a stand-in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import nibabel
import numpy as np
import pytest

from benchmarks import nnunet_pseudo
from tools.layouts.pseudo_labels import Prediction

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])


class StandIn:
    """Predict a block of as many planes as there are labels to learn from; four are right."""

    calls: ClassVar[list[str]] = []

    def __init__(self, environment: Path, work: Path, threads: int) -> None:
        self.work, self.raw = work, work / "raw" / "Dataset501_Few"

    def plan(self, spacing: list[float]) -> None:
        self.calls.append(f"{self.work.name} {spacing}")

    def train(self, configuration: str, cpu_seconds: float) -> dict:
        return {"cpu_seconds": cpu_seconds, "steps": 3}

    def predict(self, configuration: str) -> Path:
        planes = min(len(list((self.raw / "labelsTr").iterdir())), 4)
        for image in (self.raw / "imagesTs").iterdir():
            save(self.work / f"{image.name.removesuffix('_0000.nii.gz')}.nii.gz", planes)
        return self.work


def save(path: Path, planes: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    label = np.zeros((6, 5, 4), np.uint8)
    label[:planes] = 1
    nibabel.save(nibabel.Nifti1Image(label, AFFINE), path)


@pytest.fixture
def data(tmp_path) -> Path:
    entries = {}
    for seed, case in enumerate("abuvst"):
        array = np.random.default_rng(seed).random((6, 5, 4), np.float32)
        (tmp_path / "data").mkdir(exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(array, AFFINE), tmp_path / f"data/{case}.nii.gz")
        entries[case] = {"image": f"{case}.nii.gz"}
        if case in "abst":
            save(tmp_path / f"data/{case}_label.nii.gz", 4)
            entries[case]["label"] = f"{case}_label.nii.gz"
        else:
            save(tmp_path / f"results/{case}/{case}_seg.nii.gz", 4)
    parts = {"training": "ab", "unlabeled": "uv", "test": "st"}
    content = {"labels": {"0": "background", "1": "liver"}, "modality": {"0": "CT"}}
    content |= {name: [entries[case] for case in cases] for name, cases in parts.items()}
    (tmp_path / "data/dataset.json").write_text(json.dumps(content))
    return tmp_path


def test_rows_are_scored_beside_the_labels_alone_and_run_once(data, monkeypatch, capsys):
    monkeypatch.setattr(nnunet_pseudo, "NnUNet", StandIn)
    monkeypatch.setattr(StandIn, "calls", [])
    words = ["--dataset", data / "data", "--predictions", data / "results", "--work", data / "work", "--sure", "0"]
    words += ["--environment", data, "--cpu-seconds", "60", "--spacing", "2,2,3"]
    for _ in range(2):
        nnunet_pseudo.main([str(word) for word in words])
        table = capsys.readouterr().out.split("| nnU-Net |")[-1].splitlines()
        assert table[2].startswith("| labels alone | 0.667 | 0.667 |") and table[2].endswith(" | 60 | 3 |")  # 2 of 4
        assert table[3].startswith("| pseudo labels, sure 0 | 1.000 | 1.000 | 0.0 |")
        assert "pseudo labels, sure 0 1.000, labels alone 0.667: +0.333 on 2 cases (higher on 2)" in table[5]
    assert StandIn.calls == ["alone [2.0, 2.0, 3.0]", "sure_0 [2.0, 2.0, 3.0]"]


def test_a_threshold_is_judged_by_what_it_leaves_open_and_what_it_keeps(tmp_path):
    truth = np.zeros((4, 5, 6), np.uint8)
    truth[:2] = 7  # of 120 voxels 60
    found = np.zeros((4, 5, 6), np.uint8)
    found[1:3] = 7  # half of it right: Dice .5, and 60 voxels wrong
    probability = np.full((4, 5, 6, 2), 0.95, np.float32)
    probability[2] = 0.6  # the 30 voxels that were found and aren't there
    for name, array in (("truth", truth), ("image", truth), ("a_seg", found), ("a_prob", probability)):
        nibabel.save(nibabel.Nifti1Image(array, AFFINE), tmp_path / f"{name}.nii.gz")
    one = Prediction("a", *(tmp_path / f"{name}.nii.gz" for name in ("image", "a_seg", "a_prob")))
    labels = {"a": tmp_path / "truth.nii.gz"}
    plain = nnunet_pseudo.judge_labels([one], labels, [0, 7], 0)
    assert plain == {"open": 0, "open inside": 0, "caught": 0, "dice": pytest.approx(0.5)}
    sure = nnunet_pseudo.judge_labels([one], labels, [0, 7], 0.9)
    assert sure == {"open": 0.25, "open inside": 0, "caught": 0.5, "dice": pytest.approx(2 / 3)}  # 30 of 30, of 60
