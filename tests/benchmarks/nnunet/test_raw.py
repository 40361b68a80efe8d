"""What nnU-Net is given: the same cases in its layout, labels numbered as it wants them."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest

from benchmarks.nnunet.raw import to_values, write_raw

AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])


@pytest.fixture
def cases(tmp_path) -> list[dict]:
    found = []
    for number in range(3):
        image = np.random.default_rng(number).random((4, 5, 6)).astype(np.float32)
        label = (image > 0.4).astype(np.int16) * 3 + (image > 0.8) * 4  # 0, 3 and 7
        case = {"case": f"c{number}"}
        for kind, values in (("image", image), ("label", label.astype(np.int16))):
            case[kind] = str(tmp_path / f"{kind}_{number}.nii.gz")
            nibabel.save(nibabel.Nifti1Image(values, AFFINE), case[kind])
        found.append(case)
    return found


def test_labels_are_numbered_without_gaps_and_come_back_as_they_were(cases, tmp_path):
    labels = {0: "background", 3: "three", 7: "seven"}
    folder = write_raw(tmp_path / "raw" / "Dataset501_Few", cases[:2], cases[2:], labels, "CT")
    content = json.loads((folder / "dataset.json").read_text())
    assert content["labels"] == {"background": 0, "three": 1, "seven": 2} and content["numTraining"] == 2
    assert content["channel_names"] == {"0": "CT"}
    for case in cases[:2]:
        written, true = nibabel.load(folder / "labelsTr" / f"{case['case']}.nii.gz"), nibabel.load(case["label"])
        assert np.array_equal(to_values(written.dataobj, list(labels)), np.asarray(true.dataobj))
        assert set(np.unique(written.dataobj)) == {0, 1, 2} and np.allclose(written.affine, AFFINE)


def test_only_the_labelled_cases_are_there_and_no_label_of_a_scored_one(cases, tmp_path):
    folder = write_raw(tmp_path / "raw", cases[:2], cases[2:], {0: "background", 3: "three", 7: "seven"}, "MRI")
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.nii.gz"))
    assert found == [
        "imagesTr/c0_0000.nii.gz", "imagesTr/c1_0000.nii.gz", "imagesTs/c2_0000.nii.gz", "labelsTr/c0.nii.gz",
        "labelsTr/c1.nii.gz",
    ]  # fmt: skip
    write_raw(folder, cases[1:], cases[:1], {0: "background", 3: "three", 7: "seven"}, "MRI")
    assert not (folder / "labelsTr" / "c0.nii.gz").exists()  # what was there goes


def test_one_labelled_case_is_there_twice(cases, tmp_path):
    folder = write_raw(tmp_path / "raw", cases[:1], cases[1:], {0: "background", 3: "three", 7: "seven"}, "MRI")
    labels = sorted(path.name for path in (folder / "labelsTr").iterdir())
    assert labels == ["c0.nii.gz", "c0_again.nii.gz"]
    assert json.loads((folder / "dataset.json").read_text())["numTraining"] == 2
