"""What is learnt from where MONAI Label has its labels from an archive of DICOM Segmentations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from common.data.client import client_datalist
from common.errors import InputError
from common.serving.dicom_segmentation import make_segmentation, read_series
from common.volumes.read import read_volume
from support.bundle.path import BUNDLES
from support.data.dicom_series import edit_series, write_series

METADATA = str(BUNDLES / "semisam_plus" / "configs" / "metadata.json")
SHAPE = (8, 6, 4)


class Store:
    """MONAI Label's folder of an archive: one scan as it was fetched, and segmentations of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        series = write_series(folder / "fetched", np.zeros(SHAPE, int), np.diag([-1.0, -1, 3, 1]), SliceThickness="3")
        self.uid = str(pydicom.dcmread(next(series.iterdir())).SeriesInstanceUID)
        series.rename(folder / self.uid)
        self.source = read_series(folder / self.uid)
        self.image = folder / f"{self.uid}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(np.zeros(SHAPE, np.int16), self.source.affine), self.image)
        self.label = folder / "labels" / "final" / f"{self.uid}.nrrd"
        self.label.parent.mkdir(parents=True)
        self.label.write_bytes(b"numbered by the order of the segments")
        self.note({})

    def note(self, info: Mapping) -> None:
        content = {"objects": {self.uid: {"labels": {"final": {"info": dict(info)}}}}}
        (self.folder / "datastore_v2.json").write_text(json.dumps(content))

    def add(self, time: str, numbers: np.ndarray, *names: str, predicted: bool = False) -> str:
        """Fetch a segmentation whose segments 1, 2, ... are called so; return its series."""
        channels = {str(number): name for number, name in enumerate(["background", *names])}
        metadata = {"network_data_format": {"outputs": {"pred": {"channel_def": channels}}}}
        file = make_segmentation(self.source, numbers, range(len(names) + 1), metadata)
        file.ContentDate, file.ContentTime, file.SeriesInstanceUID = "20260101", time, generate_uid()
        for segment in () if predicted else file.SegmentSequence:
            del segment.SegmentationAlgorithmIdentificationSequence
        folder = self.label.parent / file.SeriesInstanceUID
        folder.mkdir()
        file.save_as(folder / f"{file.SOPInstanceUID}.dcm")
        return str(file.SeriesInstanceUID)

    def given(self) -> list[dict[str, str]]:
        return [{"image": str(self.image), "label": str(self.label)}]

    def learnt(self) -> np.ndarray:
        (case,) = client_datalist(self.given(), None, METADATA).training
        return read_volume(case["label"]).array


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "cache")


def numbers(seed: int, segments: int) -> np.ndarray:
    return np.random.default_rng(seed).choice(segments + 1, SHAPE)


def test_segments_are_what_they_are_called_whatever_their_number(store):
    drawn = numbers(0, 2)
    store.add("120000", drawn, "Kidney", "liver")
    values = np.array([0, 5, 1])  # liver is 1 and kidney 5 in metadata.json
    assert np.array_equal(store.learnt(), values[drawn])


def test_of_several_segmentations_the_newest_is_learnt_from_unless_nobody_corrected_it(store):
    for time, seed in (("120000", 0), ("130000", 1), ("110000", 2)):
        store.add(time, numbers(seed, 1), "liver")
    store.add("140000", numbers(3, 1), "liver", predicted=True)
    assert np.array_equal(store.learnt(), numbers(1, 1))


def test_a_prediction_is_no_label(store, capsys):
    store.add("120000", numbers(0, 1), "liver", predicted=True)
    with pytest.raises(InputError, match="no training case with a label"):
        client_datalist(store.given(), None, METADATA)
    assert "1 scans have no label but what a model predicted" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["liver", "Segment 2"], "has a segment 'Segment 2'; wanted one of liver, portal_vessel"),
        (["liver", "LIVER"], "has two segments 'LIVER'"),
    ],
)
def test_a_name_that_the_bundle_does_not_know_is_refused(store, names, words):
    store.add("120000", numbers(0, 2), *names)
    with pytest.raises(InputError, match=words):
        client_datalist(store.given(), None, METADATA)


def test_what_another_task_has_stored_is_passed_over_and_named(store, capsys):
    drawn = numbers(0, 1)
    store.add("120000", drawn, "liver")
    store.add("130000", numbers(1, 2), "left_atrium", "Segment 2")
    assert np.array_equal(store.learnt(), drawn)
    assert "has 'left_atrium', 'Segment 2', no label of this bundle: passed over" in capsys.readouterr().out


def test_a_scan_that_only_another_task_has_labelled_has_no_label(store, capsys):
    store.add("120000", numbers(0, 2), "left_atrium", "Segment 2")
    with pytest.raises(InputError, match="no training case with a label"):
        client_datalist(store.given(), None, METADATA)
    said = capsys.readouterr().out
    assert "has 'left_atrium', 'Segment 2', no label of this bundle" in said
    assert "1 scans have no label but what a model predicted or another task has" in said


def test_an_unknown_segment_without_a_voxel_is_no_harm(store):
    store.add("120000", numbers(0, 1), "liver", "Segment 2")
    assert np.array_equal(store.learnt(), numbers(0, 1))


def test_a_file_that_a_viewer_submitted_is_taken_until_there_is_a_newer_segmentation(store):
    series = store.add("120000", numbers(0, 1), "spleen")
    submitted = store.label.with_name(f"{store.uid}.nii.gz")
    nibabel.save(nibabel.Nifti1Image(numbers(5, 1).astype(np.uint8), store.source.affine), submitted)
    store.label = submitted
    store.note({"label_info": [{"name": "liver", "idx": 1}], "SeriesInstanceUID": series})
    assert np.array_equal(store.learnt(), numbers(5, 1))
    store.add("130000", numbers(6, 1), "liver")
    assert np.array_equal(store.learnt(), numbers(6, 1))


def test_segmentations_of_other_scans_and_broken_files_are_passed_over(store):
    drawn = numbers(0, 1)
    store.add("120000", drawn, "liver")
    series = store.add("130000", numbers(1, 1), "liver")
    (path,) = (store.label.parent / series).iterdir()
    other = pydicom.dcmread(path)
    other.ReferencedSeriesSequence[0].SeriesInstanceUID = generate_uid()
    other.save_as(path)
    (path.parent / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\1" * 40)
    assert np.array_equal(store.learnt(), drawn)


@pytest.mark.parametrize(("upwards", "program"), [(True, "dcmjs-0.0"), (False, "dcmjs-0.0"), (True, "OTHER")])
def test_what_a_viewer_mirrors_is_refused(store, upwards, program):
    def number(index: int, item: pydicom.Dataset) -> None:  # the slices lie along their normal, as written
        item.InstanceNumber = index + 1 if upwards else SHAPE[2] - index

    edit_series(store.folder / store.uid, number)
    drawn = numbers(0, 1)
    (path,) = (store.label.parent / store.add("120000", drawn, "liver")).iterdir()
    file = pydicom.dcmread(path)
    file.file_meta.ImplementationVersionName = program
    file.save_as(path)
    if upwards and program.startswith("dcmjs"):
        with pytest.raises(InputError, match="written by OHIF, which mirrors the slices"):
            store.learnt()
    else:
        assert np.array_equal(store.learnt(), drawn)
