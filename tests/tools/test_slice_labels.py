from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from common.data.datalist import read_datalist
from common.data.presence import read_slice_labels
from common.data.selection import weakly_labeled
from tools.slice_labels import main

ROOT = Path(__file__).parents[2]
SIZE = (8, 10, 12)
LABELS = {"0": "background", "1": "body", "2": "core"}


def ras_mask(index: int) -> np.ndarray:
    label = np.zeros(SIZE, np.uint8)
    label[1 : 4 + index, 2:9, 3 : 7 + index] = 1
    label[5:7, 4:6, [4, 8]] = 2  # two pieces: a gap along the axial axis
    return label


@pytest.fixture
def folder(tmp_path):
    """Three training cases, the second stored as PSR, and a labelled test case."""
    folder = tmp_path / "data"
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(4):
        label = ras_mask(index)
        for kind, array in (("image", label + random.random(SIZE)), ("label", label)):
            image = nibabel.Nifti1Image(array.astype(np.float32 if kind == "image" else np.uint8), np.eye(4))
            if index == 1:
                wanted = nibabel.orientations.axcodes2ornt("PSR")
                image = image.as_reoriented(
                    nibabel.orientations.ornt_transform(nibabel.io_orientation(image.affine), wanted)
                )
            nibabel.save(image, folder / f"{kind}_{index}.nii.gz")
    entries = [{"image": f"image_{i}.nii.gz", "label": f"label_{i}.nii.gz", "note": i} for i in range(4)]
    content = {"name": "tiny [0,\t1]", "labels": LABELS, "training": entries[:3], "test": entries[3:], "reject": []}
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def bits_of(folder, output="dataset_slices.json"):
    datalist = read_datalist(folder, output)
    found = {}
    for case in weakly_labeled(datalist):
        shape = nibabel.load(case["image"]).shape
        found[case["case"]] = read_slice_labels(case["slice_labels"], shape, datalist.labels, case["case"])
    return datalist, found


def listing(folder) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_training_masks_become_bits_and_only_bits(folder, capsys):
    assert main([str(folder)]) == 0
    content = json.loads((folder / "dataset_slices.json").read_text())
    assert all(set(entry) == {"image", "note", "slice_labels"} for entry in content["training"])
    assert content["test"] == json.loads((folder / "dataset.json").read_text())["test"]
    assert content["name"] == "tiny [0,\t1]" and content["slice_labels_source"] == "training masks, axial slices"
    assert sorted(os.listdir(folder / "slice_labels")) == [f"image_{i}.json" for i in range(3)]
    datalist, found = bits_of(folder)
    assert all("label" not in case for case in datalist.training) and "label" in datalist.test[0]
    for index in range(3):
        expected = np.stack([(ras_mask(index) == value).any((0, 1)) for value in (1, 2)])
        assert np.array_equal(found[f"image_{index}"].bits, expected)
    assert [found[f"image_{index}"].axis for index in range(3)] == [2, 1, 2]  # PSR: S is the second axis
    said = capsys.readouterr().out
    assert "label 1 (body): 42 % of 36 slices positive" in said and "label 2 (core): 17 %" in said


def test_bits_go_into_the_datalist_where_it_lies_elsewhere(folder, tmp_path):
    before = listing(folder)
    assert main([str(folder), "--axis", "sagittal", "--output", str(tmp_path / "bits.json")]) == 0
    assert listing(folder) == before
    _, found = bits_of(folder, tmp_path / "bits.json")
    assert [found[f"image_{index}"].axis for index in range(3)] == [0, 2, 0]
    expected = np.stack([(ras_mask(1) == value).any((1, 2)) for value in (1, 2)])
    assert np.array_equal(found["image_1"].bits, expected)
    assert "[0,1,1,1,0" in (tmp_path / "bits.json").read_text()


def test_masks_stay_where_they_are_asked_for(folder, tmp_path, capsys):
    assert main([str(folder), "--keep-labels", "--output", str(tmp_path / "both.json")]) == 0
    datalist, found = bits_of(folder, tmp_path / "both.json")
    assert all(case["label"] == str(folder / f"label_{index}.nii.gz") for index, case in enumerate(datalist.training))
    assert np.array_equal(found["image_2"].bits[0], (ras_mask(2) == 1).any((0, 1)))
    assert "3 training cases with slice labels and masks" in capsys.readouterr().out


def test_array_axis_and_two_clicks(folder, capsys):
    assert main([str(folder), "--axis", "2", "--two-clicks", "--output", "clicks.json"]) == 0
    entry = json.loads((folder / "slice_labels/image_0.json").read_text())
    assert entry == {"axis": 2, "labels": {"1": {"first": 3, "last": 6}, "2": {"first": 4, "last": 8}}}
    _, found = bits_of(folder, "clicks.json")
    assert found["image_0"].bits[1].sum() == 5  # the mask has it on 2 slices
    said = capsys.readouterr().out
    assert "label 2 (core): 38 % of 32 slices positive; gaps in 2 cases are filled" in said


def test_mended_bits_are_kept_and_bits_without_masks_too(folder, capsys):
    assert main([str(folder)]) == 0
    written = (folder / "dataset_slices.json").read_bytes()
    assert main([str(folder)]) == 1
    assert "already there" in capsys.readouterr().err
    content = json.loads((folder / "dataset.json").read_text())
    del content["training"][0]["label"]
    content["training"][0]["slice_labels"] = {"axis": 0, "labels": {"1": None, "2": None}}
    (folder / "dataset.json").write_text(json.dumps(content))
    assert main([str(folder), "--overwrite"]) == 0
    again = json.loads((folder / "dataset_slices.json").read_text())
    assert (folder / "dataset_slices.json").read_bytes() != written
    assert again["training"][0]["slice_labels"] == content["training"][0]["slice_labels"]


def test_problems_come_together_and_leave_nothing(folder, capsys):
    content = json.loads((folder / "dataset.json").read_text())
    del content["training"][0]["label"]
    (folder / "dataset.json").write_text(json.dumps(content))
    nibabel.save(nibabel.Nifti1Image(ras_mask(1) + np.uint8(7), np.eye(4)), folder / "label_2.nii.gz")
    (folder / "label_1.nii.gz").write_bytes(b"")
    before = listing(folder)
    assert main([str(folder)]) == 1
    said = capsys.readouterr().err
    assert "image_0 has neither a label nor slice_labels" in said
    assert "label_1.nii.gz: the file is empty" in said and "label_2.nii.gz: the mask has the values 7" in said
    assert listing(folder) == before
    assert main([str(folder), "--output", "dataset.json"]) == 1
    assert "is the datalist that is read" in capsys.readouterr().err
    assert main([str(folder / "none")]) == 1


def test_bits_that_say_little_and_labels_that_are_nowhere_are_pointed_out(folder, capsys):
    for index in range(3):
        label = np.ones_like(np.asarray(nibabel.load(folder / f"label_{index}.nii.gz").dataobj))
        affine = nibabel.load(folder / f"label_{index}.nii.gz").affine
        nibabel.save(nibabel.Nifti1Image(label, affine), folder / f"label_{index}.nii.gz")
    assert main([str(folder)]) == 0
    said = capsys.readouterr().out
    assert "label 1 (body): 100 %" in said and "say little" in said and "nothing can be learnt" in said


def test_it_runs_as_a_module(folder):
    command = [sys.executable, "-m", "tools.slice_labels", str(folder), "--output", "x.json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "3 training cases with slice labels and no mask" in done.stdout


def test_a_data_set_of_nnunet_gets_lists_that_are_read_again(folder, capsys):
    (folder / "imagesTr").mkdir()
    (folder / "labelsTr").mkdir()
    for index in (0, 2):
        (folder / f"image_{index}.nii.gz").rename(folder / f"imagesTr/case_{index}_0000.nii.gz")
        (folder / f"label_{index}.nii.gz").rename(folder / f"labelsTr/case_{index}.nii.gz")
    labels = {name: int(value) for value, name in LABELS.items()}
    content = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 2, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(content))
    assert main([str(folder)]) == 0
    written = weakly_labeled(read_datalist(folder, "dataset_slices.json"))
    assert [case["case"] for case in written] == ["case_0", "case_2"]
    assert written[0]["image"] == str(folder / "imagesTr/case_0_0000.nii.gz")
    assert written[0]["slice_labels"] == str(folder / "slice_labels/case_0.json")
