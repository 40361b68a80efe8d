from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from bundle_path import BUNDLES, import_bundle
from bundle_run import SEMISAM, files_below, files_opened, weights
from monai.bundle import ConfigParser

from common.data.client import PreparedDataset, client_datalist
from common.data.datalist import read_datalist
from common.data.presence import read_slice_labels
from common.errors import InputError

METADATA = str(BUNDLES / "semisam_plus" / "configs" / "metadata.json")
NAMES = ["background", "liver", "portal_vessel", "stomach", "spleen", "kidney"]
SHAPE = (12, 10, 8)


def save(array: np.ndarray, path: Path, flip: bool = False) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([-1.0 if flip else 1.0, 1, 2, 1])), path)
    return str(path)


@pytest.fixture
def studies(tmp_path) -> Path:
    """MONAI Label's folder: four scans, final labels of two, and of all of them what a model has predicted."""
    folder = tmp_path / "studies"
    for number in range(4):
        image = np.random.default_rng(number).normal(size=SHAPE).astype(np.float32)
        save(image, folder / f"scan_{number}.nii.gz")
        label = np.zeros(SHAPE, np.uint8)
        label[2:6, 2:6, 2] = 1
        label[4:8, 4:8, 5] = 1
        label[8:10, 2:4, 3:5] = 2
        save(label, folder / "labels" / ("original" if number > 1 else "final") / f"scan_{number}.nii.gz")
    (folder / "datastore_v2.json").write_text("{}")
    return folder


def given(studies: Path, *numbers: int) -> list[dict[str, str]]:
    return [
        {
            "image": str(studies / f"scan_{number}.nii.gz"),
            "label": str(studies / "labels" / "final" / f"scan_{number}.nii.gz"),
        }
        for number in numbers
    ]


def cases(listed: list[dict]) -> list[str]:
    return [case["case"] for case in listed]


def test_without_a_client_there_is_nothing():
    assert client_datalist(None, None, metadata="nowhere.json") is None


def test_the_lists_of_a_client_are_a_datalist(studies):
    found = client_datalist(given(studies, 0), given(studies, 1), METADATA, unlabeled_dir="auto")
    assert found.name == "studies" and found.directory == studies and found.grid is None
    assert found.labels == dict(enumerate(NAMES))
    assert cases(found.training) == ["scan_0"] and found.training[0]["label"] == given(studies, 0)[0]["label"]
    assert cases(found.validation) == ["scan_1"] and found.test == []
    assert found.unlabeled == [{"case": f"scan_{n}", "image": str(studies / f"scan_{n}.nii.gz")} for n in (2, 3)]
    assert read_datalist(None, found) is found


@pytest.mark.parametrize("folder", [None, "null"])
def test_no_further_images_where_none_are_wanted(studies, folder):
    assert client_datalist(given(studies, 0), [], METADATA, unlabeled_dir=folder).unlabeled == []


def test_further_images_may_lie_in_a_folder_of_their_own(studies, tmp_path):
    save(np.ones(SHAPE, np.float32), tmp_path / "more" / "other.nii.gz")
    (tmp_path / "more" / "notes.txt").write_text("no image")
    found = client_datalist(given(studies, 0), None, METADATA, unlabeled_dir=str(tmp_path / "more"))
    assert cases(found.unlabeled) == ["other"]
    with pytest.raises(InputError, match=r"nothing.*no such folder; wanted a folder of images, auto or null"):
        client_datalist(given(studies, 0), None, METADATA, unlabeled_dir=str(tmp_path / "nothing"))


def test_a_case_without_a_label_is_unlabelled(studies):
    training = [*given(studies, 0), {"image": str(studies / "scan_3.nii.gz")}]
    found = client_datalist(training, None, METADATA)
    assert cases(found.training) == ["scan_0"] and cases(found.unlabeled) == ["scan_3"]


def test_no_label_is_opened_where_masks_are_learnt_from(studies):
    with files_opened() as opened:
        client_datalist(given(studies, 0, 1), None, METADATA, unlabeled_dir="auto")
    assert not [path for path in opened if path.endswith(".nii.gz")]


def test_presence_keeps_which_slices_show_a_label_and_no_mask(studies):
    found = client_datalist(given(studies, 0), None, METADATA, supervision="presence")
    (case,) = found.training
    assert set(case) == {"case", "image", "slice_labels"}
    bits = read_slice_labels(case["slice_labels"], SHAPE, found.labels, "case")
    assert bits.axis == 2 and [np.flatnonzero(row).tolist() for row in bits.bits[:2]] == [[2, 5], [3, 4]]


def test_one_dot_on_a_slice_says_as_much_as_a_mask(studies):
    before = client_datalist(given(studies, 0), None, METADATA, supervision="presence").training[0]
    label = np.zeros(SHAPE, np.uint8)
    label[2, 2, 2] = label[4, 4, 5] = 1
    label[8, 2, 3:5] = 2
    save(label, studies / "labels" / "final" / "scan_0.nii.gz")
    assert client_datalist(given(studies, 0), None, METADATA, supervision="presence").training[0] == before


def test_label_slices_are_those_that_show_a_label_and_between_them_the_bits_are_positive(studies):
    label = np.zeros(SHAPE, np.uint8)
    label[2:6, 2:6, [1, 3, 6]] = 1
    label[8:10, 2:4, 1] = 2
    save(label, studies / "labels" / "final" / "scan_0.nii.gz")
    found = client_datalist(given(studies, 0), None, METADATA, supervision="label_slices")
    (case,) = found.training
    assert case["label_slices"] == [1, 3, 6] and case["label"] == given(studies, 0)[0]["label"]
    bits = read_slice_labels(case["slice_labels"], SHAPE, found.labels, "case").bits
    assert np.flatnonzero(bits[0]).tolist() == [1, 2, 3, 4, 5, 6]
    assert np.flatnonzero(bits[1]).tolist() == [1]
    label[8:10, 2:4, 6] = 2  # 1 and 6, and 3 has masks that don't show it
    save(label, studies / "labels" / "final" / "scan_0.nii.gz")
    (case,) = client_datalist(given(studies, 0), None, METADATA, supervision="label_slices").training
    bits = read_slice_labels(case["slice_labels"], SHAPE, found.labels, "case").bits
    assert np.flatnonzero(bits[1]).tolist() == [1, 2, 4, 5, 6]


def test_an_empty_label_says_that_nothing_is_there(studies):
    save(np.zeros(SHAPE, np.uint8), studies / "labels" / "final" / "scan_0.nii.gz")
    for supervision in ("presence", "label_slices"):
        (case,) = client_datalist(given(studies, 0), None, METADATA, supervision=supervision).training
        assert "label" not in case and set(case["slice_labels"]["labels"].values()) == {None}


def test_slices_lie_along_the_wanted_axis_of_the_patient(studies):
    image = np.moveaxis(nibabel.load(studies / "scan_0.nii.gz").get_fdata(), 2, 0).astype(np.float32)
    label = np.moveaxis(np.asarray(nibabel.load(given(studies, 0)[0]["label"]).dataobj), 2, 0)
    affine = np.zeros((4, 4))
    affine[2, 0] = affine[0, 1] = affine[1, 2] = affine[3, 3] = 1  # the first axis of the array is the patient's last
    nibabel.save(nibabel.Nifti1Image(image, affine), studies / "scan_0.nii.gz")
    nibabel.save(nibabel.Nifti1Image(label, affine), given(studies, 0)[0]["label"])
    axes = {"axial": 0, "sagittal": 1, "coronal": 2}
    for name, axis in axes.items():
        found = client_datalist(given(studies, 0), None, METADATA, supervision="presence", slice_axis=name)
        assert found.training[0]["slice_labels"]["axis"] == axis


def test_a_model_brings_its_grid_and_its_values(studies, tmp_path):
    tensors = {
        "spatial_size": torch.tensor([16.0, 16, 8]),
        "pixdim": torch.tensor([1.0, 1, 2]),
        "label_values": torch.tensor([0.0, 1, 2, 3, 7, 9]),
    }
    torch.save(tensors, tmp_path / "model.pt")
    found = client_datalist(given(studies, 0), None, METADATA, model=str(tmp_path / "model.pt"))
    assert found.labels == dict(zip([0, 1, 2, 3, 7, 9], NAMES, strict=True))
    assert found.grid.spatial_size == [16, 16, 8] and found.grid.pixdim == [1, 1, 2]
    torch.save(tensors | {"label_values": torch.tensor([0.0, 1])}, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"channel_def names 6 classes .*, models/model.pt has 2; .*describe_model"):
        client_datalist(given(studies, 0), None, METADATA, model=str(tmp_path / "model.pt"))


def test_problems_of_a_client_are_said_together(studies, tmp_path):
    wrong = [{"image": str(studies / "gone.nii.gz"), "label": str(studies / "lost.nii.gz")}]
    with pytest.raises(InputError) as error:
        client_datalist(wrong, None, METADATA)
    assert len(error.value.problems) == 2 and "gave it as the label of a training case" in error.value.problems[1]
    with pytest.raises(InputError, match="no training case"):
        client_datalist([], None, METADATA)
    with pytest.raises(InputError, match="case scan_0 names two images"):
        client_datalist(given(studies, 0, 0), None, METADATA)
    label = np.full(SHAPE, 17, np.uint8)
    save(label, studies / "labels" / "final" / "scan_0.nii.gz", flip=True)
    with pytest.raises(InputError) as error:
        client_datalist(given(studies, 0), None, METADATA, supervision="presence")
    assert "the values 17" in error.value.problems[0] and "direction" in error.value.problems[1]


def submitted(studies: Path, number: int, *segments: str) -> None:
    """Let MONAI Label's datastore say with which segments a final label came."""
    info = {"label_info": [{"name": name, "idx": index + 7} for index, name in enumerate(segments)]}
    labels = {"final": {"ext": ".nii.gz", "info": info}}
    (studies / "datastore_v2.json").write_text(json.dumps({"objects": {f"scan_{number}": {"labels": labels}}}))


@pytest.mark.parametrize(
    "segments", [("Liver", "portal_vessel"), ("liver",), (*NAMES[1:], "a stone"), ()], ids=["some", "one", "more", "no"]
)
def test_segments_in_the_order_of_the_names_are_taken(studies, segments):
    submitted(studies, 0, *segments)
    assert client_datalist(given(studies, 0), None, METADATA)


@pytest.mark.parametrize("segments", [("portal_vessel", "liver"), ("spleen",), ("a stone", "liver")])
def test_segments_in_another_order_are_refused(studies, segments):
    submitted(studies, 0, *segments)
    told = rf"scan_0.nii.gz: was submitted with the segments {segments[0]} 1.*; wanted liver 1, "
    with pytest.raises(InputError, match=told):
        client_datalist(given(studies, 1), given(studies, 0), METADATA)


def test_what_a_client_gives_a_prepared_dataset_is_not_looked_at():
    dataset = PreparedDataset([{"image": "/nowhere"}], [1, 2, 3], lambda item: 10 * item)
    assert list(dataset) == [10, 20, 30]


@pytest.mark.parametrize(
    ("bundle", "keys"),
    [
        ("rrl_medsam", {"case", "image"}),
        ("semisam_plus", {"case", "image", "label"}),
        ("weakmedsam", {"case", "image", "slice_labels"}),
        ("ada_sam", {"case", "image", "slice_labels", "label", "label_slices"}),
    ],
)
def test_every_bundle_takes_the_cases_of_a_client(bundle, keys, studies, tmp_path):
    label = np.zeros(SHAPE, np.uint8)
    for value in range(1, 6):
        label[2 * value - 1 : 2 * value + 1, 2:5, 2:6] = value
    save(label, studies / "labels" / "final" / "scan_0.nii.gz")
    import_bundle(bundle)
    parser = ConfigParser()
    parser.read_config(str(BUNDLES / bundle / "configs" / "train.json"))
    parser.update({"bundle_root": str(BUNDLES / bundle), "ckpt_path": str(tmp_path / "model.pt"), "device": "cpu"})
    parser.update({"train::dataset::data": given(studies, 0), "validate::dataset::data": given(studies, 1)})
    parser.update({"train::trainer::max_epochs": 7})
    with files_opened() as opened:
        cohort = parser.get_parsed_content("cohort")
    assert parser.get_parsed_content("dataset_dir") is None  # no sample cohort is made
    assert parser.get_parsed_content("train::total_epochs") == 7
    known = cohort.images if bundle == "rrl_medsam" else cohort.cases
    assert set(known[0]) == keys and cases(cohort.scored) == ["scan_1"]
    learns_without_labels = bundle in ("rrl_medsam", "semisam_plus")
    assert len(known) == (3 if learns_without_labels else 1)
    assert not [path for path in opened if "/labels/original/" in path]
    manifest = parser.get_parsed_content("training_run").manifest.as_dict()
    assert manifest["dataset"]["cases"]["unlabeled"] == (2 if learns_without_labels else 0)


def test_training_for_a_client_goes_on_from_the_model_that_is_there(tiny_cohort, tmp_path):
    content = json.loads((tiny_cohort / "dataset.json").read_text(encoding="utf-8"))
    training = [{key: str(tiny_cohort / case[key]) for key in ("image", "label")} for case in content["training"][:2]]
    overrides = {"train::dataset::data": training, "validate::dataset::data": [], "train::trainer::max_epochs": 1}
    _, said = SEMISAM.run(["train.json"], tmp_path, tiny_cohort, **overrides)
    assert "no case with a label to score" in said
    first = weights(tmp_path / "ckpt" / "model.pt")
    # as MONAI Label does: the grid would be another one for one small scan, were it planned anew
    loader = {"_target_": "CheckpointLoader", "load_path": str(tmp_path / "ckpt" / "model.pt"), "strict": False}
    loader["load_dict"] = {"model": "$@network"}
    overrides |= {"train::handlers": [loader], "max_voxels": 1000, "learning_rate": 1e-9}
    SEMISAM.run(["train.json"], tmp_path, tiny_cohort, **overrides)
    second = weights(tmp_path / "ckpt" / "model.pt")
    assert "ckpt/model.previous.pt" in files_below(tmp_path)
    assert all(torch.allclose(first[name], second[name], atol=1e-6) for name in first)
    assert [name for name in first if not torch.equal(first[name], second[name])]
    results = json.loads((tmp_path / "output" / "run.json").read_text(encoding="utf-8"))
    assert results["results"]["labeled"] == 2 and results["results"]["unlabeled"] == 4
