"""Which cases go to nnU-Net with their label, which by a prediction, and which labels are never opened."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from common.data.datalist import read_datalist
from tools.datasets import main

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, AFFINE), path)


@pytest.fixture
def data(tmp_path) -> Path:
    """Return a data set: a and b labelled, u and v not, t to test; and predictions of u, v (in doubt) and b."""
    entries = {}
    for seed, case in enumerate("abuvt"):
        save(tmp_path / f"data/images/{case}.nii.gz", np.random.default_rng(seed).random((4, 5, 6), np.float32))
        entries[case] = {"image": f"images/{case}.nii.gz"}
        if case in "abt":
            save(
                tmp_path / f"data/labels/{case}.nii.gz", np.random.default_rng(seed).integers(0, 2, (4, 5, 6), np.uint8)
            )
            entries[case]["label"] = f"labels/{case}.nii.gz"
    content = {"labels": {"0": "background", "1": "liver"}, "modality": {"0": "CT"}}
    content |= {name: [entries[case] for case in cases] for name, cases in lists("ab", "uv", "t")}
    (tmp_path / "data/dataset.json").write_text(json.dumps(content))
    for case in "uvb":
        label = np.zeros((4, 5, 6), np.uint8)
        label[:2] = 1
        probability = np.full((4, 5, 6, 2), 0.96, np.float32)
        probability[0] = 0.5  # of 120 voxels 30 are unsure
        save(tmp_path / f"results/{case}/{case}_seg.nii.gz", label)
        save(tmp_path / f"results/{case}/{case}_prob.nii.gz", probability)
    (tmp_path / "results/review.csv").write_text("case,label,look\nv,1,yes\nu,1,no\nb,1,no\n")
    return tmp_path


def lists(training: str, unlabeled: str, test: str) -> list[tuple[str, str]]:
    return [("training", training), ("unlabeled", unlabeled), ("test", test)]


def export(data: Path, *options: object, name: str = "Dataset501_Liver") -> tuple[int, Path]:
    folder = data / "raw" / name
    words = ["to_nnunet", data / "data", folder, *options]
    return main([str(word) for word in words]), folder


def in_folder(folder: Path) -> list[str]:
    return sorted(path.name.removesuffix(".nii.gz") for path in folder.iterdir())


def test_labels_alone(data, capsys):
    status, folder = export(data)
    assert status == 0 and "2 labelled cases, 1 images to predict" in capsys.readouterr().out
    assert in_folder(folder / "labelsTr") == ["a", "b"] and in_folder(folder / "imagesTs") == ["t_0000"]
    assert "ignore" not in json.loads((folder / "dataset.json").read_text())["labels"]


def test_predictions_are_labels_with_the_ignore_label_where_unsure(data, capsys):
    status, folder = export(data, "--predictions", data / "results")
    said = capsys.readouterr().out
    assert status == 0 and "2 labelled cases, 2 of 2 others by their prediction, 1 images to predict" in said
    assert "25.00% of the predicted voxels are under 0.9 and have the ignore label" in said
    content = json.loads((folder / "dataset.json").read_text())
    assert content["labels"] == {"background": 0, "liver": 1, "ignore": 2} and content["numTraining"] == 4
    found = np.asarray(nibabel.load(folder / "labelsTr/u.nii.gz").dataobj)
    assert [np.unique(plane).tolist() for plane in found] == [[2], [1], [0], [0]]
    original = np.asarray(nibabel.load(data / "data/labels/b.nii.gz").dataobj)  # not its prediction
    assert np.array_equal(nibabel.load(folder / "labelsTr/b.nii.gz").dataobj, original)


def test_what_the_review_doubts_stays_out(data):
    status, folder = export(data, "--predictions", data / "results", "--drop-doubtful", "--sure", "0")
    assert status == 0 and in_folder(folder / "labelsTr") == ["a", "b", "u"]
    assert "ignore" not in json.loads((folder / "dataset.json").read_text())["labels"]


def test_labels_of_cases_that_count_as_unlabelled_are_never_opened(data):
    (data / "data/labels/b.nii.gz").write_bytes(b"no label")
    (data / "data/labels/t.nii.gz").write_bytes(b"no label")
    status, folder = export(data, "--labeled", "a", "--predictions", data / "results")
    assert status == 0 and in_folder(folder / "labelsTr") == ["a", "b", "u", "v"]
    assert nibabel.load(folder / "labelsTr/b.nii.gz").get_fdata().max() == 2


def test_what_was_sent_can_come_back(data):
    _, folder = export(data, "--predictions", data / "results")
    assert main(["nnunet", str(folder), str(data / "back"), "--ignored", "unlabeled"]) == 0
    datalist = read_datalist(data / "back")
    assert [case["case"] for case in datalist.training] == ["a", "b"]
    assert [case["case"] for case in datalist.unlabeled] == ["u", "v"]


@pytest.mark.parametrize(
    ("change", "options", "expected"),
    [
        ({}, ["--sure", "1.5"], "--sure 1.5; wanted a probability, 0 to 1"),
        ({}, ["--labeled", "z"], "labeled case z is not a training case"),
        ({}, ["--predictions", "nowhere"], "nowhere: found no prediction of the 2 scans without a label; wanted"),
        ({"labels": {"0": "background", "1": "ignore"}}, [], "labels has ignore, which has another meaning"),
        (
            {"labels": {"0": "background", "1": "liver", "2": "spleen"}, "known_labels": [1]},
            [],
            "known_labels has 1 of",
        ),
        ({"label_slices": [2]}, [], "a: has masks on its label_slices alone; wanted whole masks"),
    ],
)
def test_what_nnunet_cannot_be_told_is_a_line(data, capsys, change, options, expected):
    content = json.loads((data / "data/dataset.json").read_text())
    for key, value in change.items():
        (content if key == "labels" else content["training"][0])[key] = value
    (data / "data/dataset.json").write_text(json.dumps(content))
    status, folder = export(data, *options)
    (line,) = capsys.readouterr().err.splitlines()
    assert status == 1 and expected in line and not folder.exists()


def test_a_folder_that_nnunet_would_not_find_is_a_line(data, capsys):
    assert export(data, name="liver")[0] == 1
    assert "wanted a folder that nnU-Net finds, such as nnUNet_raw/Dataset501_Name" in capsys.readouterr().err
