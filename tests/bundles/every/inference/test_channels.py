"""Each bundle learns from scans of two channels and serves them, from one 4D file as from a file a channel."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from common.grid.grid import read_grid
from support.bundle.problems import problems_of
from support.bundle.run import ADA, ADAPTERS, RRL, SEMISAM, WEAK, BundleRun, assert_same_weights, scores, use_fake_sam
from support.networks.tiny_sam import use_tiny_sam

AFFINE = np.diag([2.0, 2.0, 2.5, 1.0])
LABELS = {"0": "background", "1": "organ"}
RUNS: dict[str, tuple[BundleRun, dict[str, Any]]] = {
    "rrl_medsam": (RRL, {"max_voxels": 8192, "sam": "mobile_sam", "atlas": "case_0"}),
    "semisam_plus": (SEMISAM, {}),
    "ada_sam": (ADA, {}),
    "sam_adapters": (ADAPTERS, {}),
    "weakmedsam": (WEAK, {"prior": "box"}),
}
PARAMETERS = [pytest.param(name, marks=() if name == "semisam_plus" else pytest.mark.slow) for name in RUNS]


def make_cohort(folder: Path, four: bool) -> Path:
    """Write 4 training cases and a test case as the Decathlon's 4D files, or as nnU-Net's files of each channel."""
    random, content = np.random.default_rng(0), {"name": "two", "labels": LABELS}
    content |= {("modality" if four else "channel_names"): {"0": "CT", "1": "T2"}}
    content |= {"locations": {"1": {"box": [[0.2, 0.8]] * 3, "volume_ml": 12.0}}, "training": [], "test": []}
    for number in range(5):
        kind = "Tr" if number < 4 else "Ts"
        place = np.stack(np.meshgrid(*[np.linspace(-1, 1, 24)] * 3, indexing="ij"), -1)
        organ = (((place - random.uniform(-0.2, 0.2, 3)) / random.uniform(0.4, 0.6, 3)) ** 2).sum(-1) < 1
        noise = random.normal(0, 20, (*organ.shape, 2))
        image = (np.stack([60 + 100 * organ, 900 - 400 * organ], -1) + noise).astype(np.int16)
        for name, voxels in {"labels": organ.astype(np.uint8), "images": image}.items():
            (folder / f"{name}{kind}").mkdir(parents=True, exist_ok=True)
            files = {"": voxels}
            if voxels.ndim == 4 and not four:
                files = {f"_000{channel}": voxels[..., channel] for channel in range(2)}
            for end, array in files.items():
                nibabel.save(
                    nibabel.Nifti1Image(array, AFFINE), folder / f"{name}{kind}" / f"case_{number}{end}.nii.gz"
                )
        entry = {key: f"{key}s{kind}/case_{number}.nii.gz" for key in ("image", "label")}
        bits = {"slice_labels": {"axis": 2, "labels": {"1": organ.any((0, 1)).astype(int).tolist()}}}
        content["training" if number < 4 else "test"].append(entry | (bits if number < 4 else {}))
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("channels")
    return {name: make_cohort(folder / name, name == "four") for name in ("four", "pair")}


def train(name: str, cohort: Path, folder: Path, patch: pytest.MonkeyPatch, **settings: Any) -> str:
    run, own = RUNS[name]
    if run in (ADA, ADAPTERS):
        use_tiny_sam(patch, folder.parent / "weights", bundle=name)
    if run is RRL:
        use_fake_sam(patch, folder.parent / "weights")
    return run.run(["train.json"], folder, cohort, **{**own, **settings})[1]


@pytest.mark.parametrize("name", PARAMETERS)
def test_two_channels_are_learnt_from_and_served(name, cohorts, tmp_path, monkeypatch):
    said = train(name, cohorts["pair"], tmp_path / "pair", monkeypatch, levels=2, fine_pixdim=2.0, fine_epochs=1)
    assert "plan: intensities from 0 to 1: CT " in said and "T2 percentiles of each scan" in said
    assert ("inside labels of" in said) == (name != "weakmedsam")  # of ADA-SAM's, the slices with masks
    model, run = tmp_path / "pair/ckpt/model.pt", RUNS[name][0]
    grid = read_grid(str(model), {})
    assert grid.channels == 2 and grid.intensity_range[0][1] > 100 and grid.intensity_range[1] is None
    assert len(scores(tmp_path / "pair/output/metrics.json")) == 1
    voxels = {}
    for kind, cohort in cohorts.items():
        run.run(["inference.json"], tmp_path / kind, cohort / "imagesTs", "infer", ckpt_path=str(model))
        voxels[kind] = nibabel.load(tmp_path / kind / "output/case_4/case_4_seg.nii.gz")
    assert np.array_equal(voxels["four"].dataobj, voxels["pair"].dataobj)
    assert voxels["four"].shape == (24, 24, 24) and np.allclose(voxels["four"].affine, AFFINE)


def test_a_4d_file_and_a_file_a_channel_give_one_model(cohorts, tmp_path, monkeypatch):
    for kind, cohort in cohorts.items():
        train("semisam_plus", cohort, tmp_path / kind, monkeypatch)
    assert_same_weights(tmp_path / "four/ckpt/model.pt", tmp_path / "pair/ckpt/model.pt")


def test_a_scan_of_another_number_of_channels_is_one_line(cohorts, tmp_path, monkeypatch):
    train("semisam_plus", cohorts["four"], tmp_path / "two", monkeypatch, epochs=1)
    model = str(tmp_path / "two/ckpt/model.pt")

    def problems(scan: Path) -> list[str]:
        with pytest.raises(Exception) as caught:
            SEMISAM.run(["inference.json"], tmp_path / "served", scan, "infer", ckpt_path=model)
        return problems_of(caught)

    lonely = tmp_path / "lonely.nii.gz"
    shutil.copy(cohorts["pair"] / "imagesTs/case_4_0000.nii.gz", lonely)
    assert problems(lonely) == [
        f"{lonely}: has one channel; wanted 2: a NIfTI file of four dimensions, or files lonely_0000.nii.gz to "
        "lonely_0001.nii.gz"
    ]
    three = tmp_path / "three.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.random.default_rng(0).random((8, 8, 8, 3), np.float32), AFFINE), three)
    assert problems(three) == [f"{three}: has 3 channels; wanted 2"]


def test_a_channel_that_a_sam_cannot_see_is_one_line(cohorts, tmp_path, monkeypatch):
    with pytest.raises(Exception) as caught:
        train("weakmedsam", cohorts["four"], tmp_path / "wrong", monkeypatch, sam_channel=2)
    assert problems_of(caught) == ["sam_channel is 2; wanted 0 to 1, or null for the mean of all channels"]
