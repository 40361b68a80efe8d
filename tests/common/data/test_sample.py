from __future__ import annotations

import json
import multiprocessing

import nibabel as nib
import numpy as np
import pytest

from common.data.datalist import read_datalist
from common.data.presence import derive_slice_labels, ras_axes, read_slice_labels
from common.data.sample import (
    FLOW_GRID,
    LABELS,
    VERSION,
    _deform,
    make_case,
    make_sample_cohort,
    nominal_locations,
    sample_dataset_dir,
)
from common.data.selection import weakly_labeled
from common.errors import InputError

TINY = {"num_training": 1, "num_validation": 0, "num_test": 1, "spatial_size": (16, 16, 16)}


def test_datalist_is_msd_and_says_synthetic(tiny_cohort):
    dataset = json.loads((tiny_cohort / "dataset.json").read_text(encoding="utf-8"))
    assert [len(dataset[part]) for part in ("training", "validation", "test")] == [5, 1, 2]
    assert dataset["labels"] == LABELS
    assert "synthetic" in dataset["name"].lower() and "synthetic" in dataset["description"]
    cases = [case for part in ("training", "validation", "test") for case in dataset[part]]
    assert len({case["image"] for case in cases}) == 8
    assert all((tiny_cohort / case[key]).is_file() for case in cases for key in ("image", "label"))


def test_volumes_are_scans_of_varied_geometry_with_every_label(tiny_cohort):
    orientations, shapes, scales = set(), set(), []
    for path in sorted((tiny_cohort / "imagesTr").iterdir()):
        image, label = nib.load(path), nib.load(tiny_cohort / "labelsTr" / path.name)
        voxels = np.asarray(label.dataobj)
        assert image.get_data_dtype() == np.int16 and label.get_data_dtype() == np.uint8
        assert image.shape == label.shape and np.array_equal(image.affine, label.affine)
        assert np.allclose(image.get_qform(), image.get_sform(), atol=1e-3)
        assert set(np.unique(voxels)) == {int(value) for value in LABELS}
        zooms = np.array(image.header.get_zooms())
        assert zooms.min() > 1.45 and zooms.max() < 2.05
        direction = image.affine[:3, :3] / zooms
        assert np.allclose(direction @ direction.T, np.eye(3), atol=1e-5)
        assert np.sort(np.abs(direction), axis=1)[:, 1].max() > 0.005  # oblique
        orientations.add(nib.aff2axcodes(image.affine))
        shapes.add(image.shape)
        scales.append(np.percentile(np.asarray(image.dataobj), 99))
    assert len(orientations) >= 4 and len(shapes) >= 4
    assert max(scales) > 1.5 * min(scales)


def test_some_scan_has_slices_without_organs():
    _, label, affine = make_case(1, 0, (32, 32, 32))
    axial = nib.orientations.io_orientation(affine)[:, 0].tolist().index(2)
    organs = label.any(axis=tuple(axis for axis in range(3) if axis != axial))
    assert (~organs).sum() >= 6 and organs.sum() >= 10


def test_organs_show_in_the_image():
    image, label, _ = make_case(0, 0, (32, 32, 32))
    mean = {int(value): image[label == int(value)].mean() for value in LABELS}
    assert mean[2] < 0.9 * mean[1]  # the vessel is darker than the liver around it
    assert mean[3] < mean[1] < mean[5]


def test_deformation_never_folds():
    nodes = np.linspace(-1, 1, FLOW_GRID)
    points = np.stack(np.meshgrid(nodes, nodes, nodes, indexing="ij"), axis=-1)
    for seed in range(3):
        moved = _deform(np.random.default_rng(seed), points)
        gradients = [np.gradient(moved, nodes, axis=axis) for axis in range(3)]
        determinant = np.linalg.det(np.stack(gradients, axis=-1))
        assert determinant.min() > 0
        assert determinant.std() > 0.02  # it deforms at all


def test_training_cases_have_axial_slice_labels_that_say_something(tiny_cohort):
    datalist = read_datalist(tiny_cohort)
    assert not any("slice_labels" in case for case in datalist.validation + datalist.test)
    bits = []
    for case in weakly_labeled(datalist):
        label = nib.load(case["image"].replace("images", "labels"))
        found = read_slice_labels(case["slice_labels"], label.shape, datalist.labels, case["case"])
        assert ras_axes(label.affine)[found.axis] == 2
        expected = derive_slice_labels(np.asarray(label.dataobj), found.axis, datalist.labels)
        assert np.array_equal(found.bits, expected.bits)
        bits.append(found.bits)
    share = np.concatenate(bits, axis=1).mean(1)
    assert share.min() > 0.25 and share.max() < 0.6
    assert not np.concatenate(bits, axis=1).any(0).all()  # empty ends


def test_locations_are_typical_for_the_cases_without_being_drawn_from_them(tiny_cohort):
    datalist = read_datalist(tiny_cohort)
    assert datalist.other["locations"] == nominal_locations((32, 32, 32))
    volumes, boxes = [], []
    for case in datalist.training:
        label = nib.as_closest_canonical(nib.load(case["label"]))
        voxels = np.asarray(label.dataobj)
        volumes.append([(voxels == v).sum() * np.prod(label.header.get_zooms()) / 1000 for v in range(1, 6)])
        where = [np.argwhere(voxels == v)[:, :2] for v in range(1, 6)]
        boxes.append([np.stack([w.min(0), w.max(0) + 1], 1) / np.array(voxels.shape[:2])[:, None] for w in where])
    for index, said in enumerate(datalist.other["locations"][str(value)] for value in range(1, 6)):
        assert said["box"][2] == [0, 1]
        assert np.abs(np.mean(boxes, axis=0)[index] - said["box"][:2]).max() < 0.12
        assert 0.6 < np.mean(volumes, axis=0)[index] / said["volume_ml"] < 1.5


def test_a_cohort_of_an_earlier_version_is_made_anew(tmp_path):
    folder = make_sample_cohort(tmp_path / "c", **TINY)
    written = (folder / "dataset.json").read_bytes()
    dataset = json.loads(written)
    dataset["generator"]["version"] = VERSION - 1
    for case in dataset["training"]:
        (folder / case.pop("slice_labels")).unlink()
    for remake in (sample_dataset_dir, lambda folder: make_sample_cohort(folder, **TINY)):
        (folder / "dataset.json").write_text(json.dumps(dataset))
        remake(folder)
        assert (folder / "dataset.json").read_bytes() == written
        assert (folder / "slice_labels/sample_000.json").is_file()


def test_same_arguments_same_bytes_and_another_seed_others(tmp_path):
    first, second = (make_sample_cohort(tmp_path / name, **TINY) for name in ("a", "b"))
    other = make_sample_cohort(tmp_path / "c", seed=1, **TINY)
    files = sorted(path.relative_to(first) for path in first.rglob("*.*") if path.is_file())
    assert len(files) == 6
    for file in files:
        assert (first / file).read_bytes() == (second / file).read_bytes()
        assert (first / file).read_bytes() != (other / file).read_bytes()


def test_nothing_is_made_twice_and_missing_files_come_back(tmp_path):
    folder = make_sample_cohort(tmp_path / "cohort", **TINY)
    index, image = folder / "dataset.json", folder / "imagesTr" / "sample_000.nii.gz"
    before, content = index.stat().st_mtime_ns, image.read_bytes()
    assert sample_dataset_dir(folder) == str(folder)
    assert index.stat().st_mtime_ns == before
    image.unlink()
    make_sample_cohort(folder, **TINY)
    assert image.read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["cohort"]  # no temporary folder stays


def test_two_processes_may_race(tmp_path):
    context = multiprocessing.get_context("spawn")
    racers = [context.Process(target=make_sample_cohort, args=(tmp_path / "c",), kwargs=TINY) for _ in range(2)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert [racer.exitcode for racer in racers] == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    assert len(list((tmp_path / "c").rglob("*.nii.gz"))) == 4


def test_another_data_set_is_left_alone(tmp_path):
    index = tmp_path / "dataset.json"
    index.write_text('{"name": "mine", "training": []}')
    with pytest.raises(InputError, match=r"dataset\.json: found a data set that is not a generated one"):
        sample_dataset_dir(tmp_path)
    assert index.read_text(encoding="utf-8") == '{"name": "mine", "training": []}'
    index.rename(tmp_path / "notes.json")
    with pytest.raises(InputError, match=r"found notes\.json but no dataset\.json"):
        sample_dataset_dir(tmp_path)


def test_other_arguments_in_the_same_folder_are_refused(tmp_path):
    make_sample_cohort(tmp_path / "c", **TINY)
    with pytest.raises(InputError, match="delete it or choose another folder"):
        make_sample_cohort(tmp_path / "c", seed=3, **TINY)


def test_bad_arguments_are_listed_together(tmp_path):
    with pytest.raises(InputError) as caught:
        make_sample_cohort(tmp_path / "c", num_training=0, num_test=-1, spatial_size=(4, 32, 32))
    assert len(caught.value.problems) == 3
    assert not (tmp_path / "c").exists()
