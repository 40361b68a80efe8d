"""What nnU-Net is given: the same cases in its layout, labels numbered as it wants them."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from common.data.datalist import read_datalist
from common.errors import InputError
from tools.layouts.pseudo_labels import Prediction
from tools.layouts.raw import to_values, write_raw

AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])
LABELS = {0: "background", 3: "three", 7: "seven"}


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


def listed(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.nii.gz"))


def test_labels_are_numbered_without_gaps_and_come_back_as_they_were(cases, tmp_path):
    folder = tmp_path / "raw" / "Dataset501_Few"
    write_raw(folder, cases[:2], cases[2:], LABELS, ["CT"])
    content = json.loads((folder / "dataset.json").read_text())
    assert content["labels"] == {"background": 0, "three": 1, "seven": 2} and content["numTraining"] == 2
    assert content["channel_names"] == {"0": "CT"}
    for case in cases[:2]:
        written, true = nibabel.load(folder / "labelsTr" / f"{case['case']}.nii.gz"), nibabel.load(case["label"])
        assert np.array_equal(to_values(written.dataobj, list(LABELS)), np.asarray(true.dataobj))
        assert set(np.unique(written.dataobj)) == {0, 1, 2} and np.allclose(written.affine, AFFINE)
    assert [case["case"] for case in read_datalist(folder).training] == ["c0", "c1"]


def test_only_the_labelled_cases_are_there_and_no_label_of_a_scored_one(cases, tmp_path):
    write_raw(tmp_path / "raw", cases[:2], [{**cases[2], "label": "nowhere"}], LABELS, ["MRI"])
    assert listed(tmp_path / "raw") == [
        "imagesTr/c0_0000.nii.gz", "imagesTr/c1_0000.nii.gz", "imagesTs/c2_0000.nii.gz", "labelsTr/c0.nii.gz",
        "labelsTr/c1.nii.gz",
    ]  # fmt: skip


def test_one_labelled_case_is_there_twice(cases, tmp_path):
    write_raw(tmp_path / "raw", cases[:1], cases[1:], LABELS, ["MRI"])
    labels = sorted(path.name for path in (tmp_path / "raw/labelsTr").iterdir())
    assert labels == ["c0.nii.gz", "c0_again.nii.gz"]
    assert json.loads((tmp_path / "raw/dataset.json").read_text())["numTraining"] == 2


def test_a_prediction_is_a_label_and_the_ignore_label_the_highest(cases, tmp_path):
    probability = np.full((4, 5, 6, 3), 0.5, np.float32)
    nibabel.save(nibabel.Nifti1Image(probability, AFFINE), tmp_path / "prob.nii.gz")
    predicted = Prediction("c2", Path(cases[2]["image"]), Path(cases[2]["label"]), tmp_path / "prob.nii.gz")
    for sure, highest, share in ((0.0, 2, 0), (0.6, 3, 1), (0.5, 2, 0)):
        folder = tmp_path / f"raw_{sure}"
        assert write_raw(folder, cases[:1], [], LABELS, ["MRI"], [predicted], sure) == {"c2": share}
        labels = json.loads((folder / "dataset.json").read_text())["labels"]
        assert labels.get("ignore") == (3 if sure else None)
        assert nibabel.load(folder / "labelsTr/c2.nii.gz").get_fdata().max() == highest
        assert nibabel.load(folder / "labelsTr/c0.nii.gz").get_fdata().max() == 2  # a labelled case as it is


def test_every_channel_is_a_file_in_the_one_format(tmp_path):
    both = np.random.default_rng(0).random((4, 5, 6, 2)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(both, AFFINE), tmp_path / "one_file.nii.gz")
    for number in range(2):
        image = SimpleITK.GetImageFromArray(both[..., number].T)
        image.SetSpacing((1, 2, 3))
        SimpleITK.WriteImage(image, str(tmp_path / f"apart_{number:04d}.mha"))
    nibabel.save(nibabel.Nifti1Image((both[..., 0] > 0.5).astype(np.uint8), AFFINE), tmp_path / "label.nii.gz")
    cases = [
        {"case": "one", "image": tmp_path / "one_file.nii.gz", "label": tmp_path / "label.nii.gz"},
        {"case": "apart", "image": tmp_path / "apart_0000.mha", "label": tmp_path / "label.nii.gz"},
    ]
    write_raw(tmp_path / "raw", cases, [], {0: "background", 1: "bright"}, ["T1", "T2"])
    assert json.loads((tmp_path / "raw/dataset.json").read_text())["channel_names"] == {"0": "T1", "1": "T2"}
    for case in cases:
        for number in range(2):
            found = nibabel.load(tmp_path / "raw/imagesTr" / f"{case['case']}_{number:04d}.nii.gz")
            assert np.array_equal(found.dataobj, both[..., number])


def test_what_cannot_be_read_is_a_line_each_and_no_data_set(cases, tmp_path):
    for case in cases[:2]:
        Path(case["label"]).write_bytes(b"")
    with pytest.raises(InputError) as raised:
        write_raw(tmp_path / "raw", cases, [], LABELS, ["CT"])
    assert len(raised.value.problems) == 2 and "c0: the file is empty" in raised.value.problems[0]
    assert not (tmp_path / "raw/dataset.json").exists()
