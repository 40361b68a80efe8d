"""Folders of one mask a structure as a data set: which image, which values, and what a case doesn't tell about."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest

from common.data.checks import check_cases
from common.data.datalist import read_datalist
from tools.datasets import main


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)


def image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((6, 5, 4), np.float32)


def mask(*planes: int) -> np.ndarray:
    array = np.zeros((6, 5, 4), np.uint8)
    array[list(planes)] = 1
    return array


@pytest.fixture
def source(tmp_path) -> Path:
    """Return s1 with all three structures, s2 with two of them, of which one isn't there, and s3 with none."""
    folder = tmp_path / "Totalsegmentator"
    structures = {
        "s1": {"spleen": mask(0), "liver": mask(2, 3), "aorta": mask(5)},
        "s2": {"liver": mask(1), "aorta": mask()},
    }
    for seed, case in enumerate(("s1", "s2", "s3")):
        save(folder / case / "ct.nii.gz", image(seed))
        for name, array in structures.get(case, {}).items():
            save(folder / case / "segmentations" / f"{name}.nii.gz", array)
    (folder / "s1/segmentations/statistics.json").write_text("{}")
    (folder / "meta.csv").write_text("")
    return folder


def convert(source: Path, *options: object) -> Path:
    target = source.parent / "target"
    assert main([str(word) for word in ("totalsegmentator", source, target, *options)]) == 0
    return target


def errors(capsys, source: Path, *options: object) -> list[str]:
    assert main([str(word) for word in ("totalsegmentator", source, source.parent / "target", *options)]) == 1
    assert not (source.parent / "target/dataset.json").exists()
    return capsys.readouterr().err.splitlines()


def test_masks_become_one_label_and_what_has_no_file_is_not_known(source):
    datalist = read_datalist(convert(source))
    assert datalist.labels == {0: "background", 1: "aorta", 2: "liver", 3: "spleen"}
    assert datalist.other["modality"] == {"0": "CT"}
    whole, partial = datalist.training
    assert "known_labels" not in whole and partial["known_labels"] == [1, 2]
    assert [case["case"] for case in datalist.unlabeled] == ["s3"]
    found = np.asarray(nibabel.load(whole["label"]).dataobj)
    assert [np.unique(plane).tolist() for plane in found] == [[3], [0], [2], [2], [0], [1]]
    assert check_cases(datalist.training, datalist.labels) == []
    assert os.path.samefile(whole["image"], source / "s1/ct.nii.gz")


def test_chosen_structures_have_their_order_and_others_are_left_out(source):
    datalist = read_datalist(convert(source, "--structures", "spleen,liver"))
    assert datalist.labels == {0: "background", 1: "spleen", 2: "liver"}
    assert [case.get("known_labels") for case in datalist.training] == [None, [2]]
    assert np.unique(nibabel.load(datalist.training[0]["label"]).dataobj).tolist() == [0, 1, 2]


def test_images_may_lie_elsewhere_and_masks_in_the_folder_of_the_case(tmp_path):
    save(tmp_path / "scans/p1.nii.gz", image(0))
    save(tmp_path / "out/p1/liver.nii.gz", mask(1))
    target = convert(tmp_path / "out", "--images", tmp_path / "scans", "--modality", "MRI")
    datalist = read_datalist(target)
    assert [case["case"] for case in datalist.training] == ["p1"] and datalist.other["modality"] == {"0": "MRI"}


def test_what_lies_in_two_masks_is_said_and_too_much_of_it_refused(source, capsys):
    save(source / "s2/segmentations/aorta.nii.gz", mask(0, 1, 2, 3))
    lines = errors(capsys, source)
    assert (
        len(lines) == 2 and "s2: segmentations/aorta.nii.gz: 25% of aorta lies in other structures' masks" in lines[0]
    )
    assert "100% of liver" in lines[1]
    convert(source, "--shared", "1")
    assert "s2: 20 voxels (25.00% of the label) in several masks" in capsys.readouterr().out


def test_problems_of_all_cases_are_told_at_once(source, capsys):
    os.remove(source / "s1/ct.nii.gz")
    save(source / "s2/t1.nii.gz", image(5))
    os.rename(source / "s2/ct.nii.gz", source / "s2/t2.nii.gz")
    lines = errors(capsys, source)
    assert lines[0].startswith("error: s1: found no image; wanted one image beside segmentations")
    assert lines[1].startswith("error: s2: found t1.nii.gz, t2.nii.gz; wanted one image") and len(lines) == 2


def test_a_structure_that_nobody_has_and_a_modality_that_nobody_says(source, capsys):
    (line,) = errors(capsys, source, "--structures", "liver,kidney")
    assert "structure kidney: no case has a file of it; wanted some of aorta, liver, spleen" in line
    os.rename(source / "s1/ct.nii.gz", source / "s1/scan.nii.gz")
    assert "the images' names don't say one modality; wanted --modality CT" in errors(capsys, source)[0]


def test_folders_without_masks_are_one_line(tmp_path, capsys):
    save(tmp_path / "scans/a/ct.nii.gz", image(0))
    assert "found no mask of a structure in 1 folders" in errors(capsys, tmp_path / "scans")[0]


def test_held_out_cases_keep_what_they_tell(source):
    target = convert(source, "--test", "1", "--seed", "3")
    content = json.loads((target / "dataset.json").read_text())
    assert len(content["training"]) == len(content["test"]) == 1
    told = [entry.get("known_labels") for entry in content["training"] + content["test"]]
    assert told in ([None, [1, 2]], [[1, 2], None])
