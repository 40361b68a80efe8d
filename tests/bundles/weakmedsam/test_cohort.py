from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest

from common.errors import find_input_error
from support.bundle.path import import_bundle

WeakCohort = import_bundle("weakmedsam", "cohort").WeakCohort
SIZE = (24, 16, 20)
BITS = {"1": {"first": 4, "last": 11}, "2": [0] * 8 + [1] * 4 + [0] * 8}


def nifti(array: np.ndarray, codes: str) -> nibabel.Nifti1Image:
    """A volume given in RAS, stored in another order of axes."""
    wanted = nibabel.orientations.axcodes2ornt(codes)
    image = nibabel.Nifti1Image(array, np.eye(4))
    return image.as_reoriented(nibabel.orientations.ornt_transform(nibabel.io_orientation(image.affine), wanted))


@pytest.fixture
def folder(tmp_path):
    """Three training cases with slice labels and unreadable masks, one of them stored as PSR; a test case."""
    random = np.random.default_rng(0)
    label = np.zeros(SIZE, np.uint8)
    label[6:18, 5:12, 4:12] = 1
    label[8:12, 5:12, 8:12] = 2
    for index in range(4):
        voxels = 0.3 * label + 0.05 * random.standard_normal(SIZE)
        for name, array in (("image", voxels.astype(np.float32)), ("label", label)):
            nibabel.save(nifti(array, "PSR" if index == 1 else "RAS"), tmp_path / f"{name}_{index}.nii.gz")
    entries = [{"image": f"image_{i}.nii.gz", "label": f"label_{i}.nii.gz"} for i in range(4)]
    for index in range(3):
        (tmp_path / f"label_{index}.nii.gz").write_bytes(b"never opened")
        entries[index]["slice_labels"] = {"axis": 1 if index == 1 else 2, "labels": BITS}
    (tmp_path / "bits.json").write_text(json.dumps(entries[2]["slice_labels"]))
    entries[2]["slice_labels"] = "bits.json"
    content = {
        "name": "tiny",
        "labels": {"0": "background", "1": "body", "2": "core"},
        "training": entries[:3],
        "test": entries[3:],
        "reject": ["image_2"],
        "locations": {"1": {"box": [[0.2, 0.8], [0.3, 0.8], [0, 1]]}},
    }
    write(tmp_path, content)
    return tmp_path


def write(folder, content):
    (folder / "dataset.json").write_text(json.dumps(content))


def change(folder, **changes):
    write(folder, json.loads((folder / "dataset.json").read_text()) | changes)


def problems(folder, **options) -> str:
    with pytest.raises(ValueError) as error:
        WeakCohort(str(folder), **options).check()
    return "\n".join(find_input_error(error.value).problems)


def test_masks_of_training_cases_are_neither_opened_nor_passed_on(folder):
    cohort = WeakCohort(str(folder), divisor=4)
    assert all(set(case) == {"case", "image", "slice_labels"} for case in cohort.cases) and len(cohort.cases) == 3
    assert [case["case"] for case in cohort.scored] == ["image_3"]
    grid = {"spatial_size": [24, 16, 20], "pixdim": [1.0, 1.0, 1.0], "label_values": [0, 1, 2]}
    assert cohort.grid.as_dict() == {**grid, "strides": [[2, 2, 2]] * 2}
    assert cohort.slice_axis == 2 and cohort.reject == ["image_2"]
    assert cohort.positive_share == {1: 0.4, 2: 0.2}
    assert cohort.describe_share() == "body 40 %, core 20 % of the axial slices are positive"
    assert cohort.locations[1].box[1] == (0.3, 0.8) and cohort.locations[2].box is None
    assert sorted(cohort.slice_labels) == ["image_0", "image_1", "image_2"]


def test_without_truth_and_reject(folder):
    content = json.loads((folder / "dataset.json").read_text())
    write(folder, {key: content[key] for key in ("labels", "training")})
    cohort = WeakCohort(str(folder), spatial_size="null", pixdim="None")
    assert cohort.scored == [] and cohort.reject == [] and cohort.locations[1].volume_ml is None


def test_cases_cut_along_different_axes_are_refused(folder):
    training = json.loads((folder / "dataset.json").read_text())["training"]
    bits = {"1": {"first": 4, "last": 11}, "2": None}
    training[0]["slice_labels"] = {"axis": 1, "labels": bits}
    change(folder, training=training)
    said = problems(folder)
    assert "1 cases (image_0) count coronal slices" in said and "2 cases (image_1, image_2) count axial" in said


def test_wrong_slice_labels_are_said_with_the_rest(folder):
    training = json.loads((folder / "dataset.json").read_text())["training"]
    training[0]["slice_labels"] = {"axis": 0, "labels": BITS}
    (folder / "bits.json").write_text('{"axis": 2, "labels": {"1": null}}')
    (folder / "image_1.nii.gz").write_bytes(b"")
    change(folder, training=training)
    said = problems(folder)
    assert "image_0.nii.gz: slice_labels: label 2 (core) has 20 bits; wanted 24" in said
    assert "image_2.nii.gz: slice_labels bits.json: label 2 (core) is missing" in said and "empty (0 bytes)" in said


def test_all_wrong_slice_labels_are_said_where_building_asks_for_them_first(folder):
    training = json.loads((folder / "dataset.json").read_text())["training"]
    for case in training[:2]:
        case["slice_labels"] = {"axis": 0, "labels": BITS}
    change(folder, training=training)
    with pytest.raises(ValueError) as error:
        _ = WeakCohort(str(folder)).slice_labels
    said = "\n".join(find_input_error(error.value).problems)
    assert "image_0.nii.gz: slice_labels" in said and "image_1.nii.gz: slice_labels" in said


def test_what_lacks_slice_labels_and_labels_that_are_nowhere(folder):
    training = json.loads((folder / "dataset.json").read_text())["training"]
    for case in training:
        case["slice_labels"] = {"axis": 1 if "_1" in case["image"] else 2, "labels": BITS | {"2": None}}
    change(folder, training=training)
    assert "label 2 (core) is on no slice of any training case" in problems(folder)
    del training[1]["slice_labels"]
    change(folder, training=training)
    assert "case image_1 has no slice_labels" in problems(folder) and "tools.slice_labels" in problems(folder)


@pytest.mark.parametrize(
    ("reject", "words"),
    [
        ("image_0", "wanted a list"),
        (["image_3"], "reject has image_3; wanted a training case"),
        (["image_0", "image_1", "image_2"], "all 3 training cases"),
    ],
)
def test_a_reject_list_that_is_none(folder, reject, words):
    change(folder, reject=reject)
    assert words in problems(folder)
