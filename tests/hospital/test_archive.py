"""Every bundle in MONAI Label's server on an archive: scans come by DICOMweb, and DICOM Segmentations go back to it."""

from __future__ import annotations

import gzip
import json

import nibabel
import numpy as np
import pydicom
import pytest

from support.hospital.labels import dice, draw, segments_by_slice
from support.hospital.scans import bright_by_slice, series_uid
from support.hospital.site import BUNDLES, ELLIPSOID, UPWARDS


def names_of(hospital, model: str) -> list[dict[str, str]]:
    """Return `label_info` as a viewer sends it, in the order of the labels' values."""
    labels = hospital.server.ask("/info/")["models"][model]["labels"]
    return [{"name": name, "model_name": model} for name in sorted(labels, key=labels.__getitem__)]


def store_answer(hospital, model: str, patient: int, path) -> pydicom.Dataset:
    """Let a model segment a series, store the DICOM-SEG, and return it as the archive gives it back."""
    answer = hospital.server.infer(model, series_uid(patient), "dicom_seg", label_info=names_of(hospital, model))
    path.write_bytes(answer)
    hospital.archive.store(path)
    wanted = pydicom.dcmread(path).SeriesInstanceUID
    assert [each.Modality for each in hospital.archive.find("series", SeriesInstanceUID=wanted)] == ["SEG"]
    (found,) = hospital.archive.fetch(wanted)
    return found


def test_the_archive_holds_what_was_sent_and_the_server_lists_it(hospital):
    found = {
        each.SeriesInstanceUID: each.Modality for each in hospital.archive.find("series") if each.Modality != "SEG"
    }
    assert set(found) == {series_uid(patient) for patient in hospital.series}
    assert sorted(found.values()) == ["CT"] * 5 + ["MR"]
    assert hospital.server.ask("/info/")["datastore"]["total"] == len(hospital.series)


@pytest.mark.parametrize("name", BUNDLES)
@pytest.mark.parametrize("patient", [1, 4])
def test_every_bundle_segments_ct_and_mr_on_their_own_grid(hospital, name, patient):
    answer = nibabel.Nifti1Image.from_bytes(gzip.decompress(hospital.server.infer(name, series_uid(patient), "image")))
    image = nibabel.load(hospital.cohort / hospital.cases[patient - 1]["image"])
    corners = np.array([[0, 0, 0, 1], [*(np.array(answer.shape) - 1), 1]])
    ends = np.array([[0, 0, 0, 1], [*(np.array(image.shape) - 1), 1]])
    found, wanted = (np.sort(points @ volume.affine.T, 0) for points, volume in ((corners, answer), (ends, image)))
    assert sorted(answer.shape) == sorted(image.shape)
    assert len(np.unique(answer.dataobj)) > 1
    assert np.linalg.norm(found[0] - found[1]) == pytest.approx(np.linalg.norm(wanted[0] - wanted[1]), abs=1e-2)


@pytest.mark.parametrize("patient", [ELLIPSOID, UPWARDS])
def test_what_is_stored_lies_in_space_where_the_scan_is_bright(hospital, patient, tmp_path):
    found = store_answer(hospital, "bright", patient, tmp_path / "seg.dcm")
    assert [(item.SegmentNumber, item.SegmentLabel) for item in found.SegmentSequence] == [(1, "bright")]
    assert found.ReferencedSeriesSequence[0].SeriesInstanceUID == series_uid(patient)
    assert dice(segments_by_slice(found), bright_by_slice(hospital.series[patient])) > 0.9


@pytest.mark.parametrize("name", BUNDLES)
def test_a_bundle_learns_from_what_was_drawn_by_names_and_not_from_what_models_stored(hospital, name, tmp_path):
    content = json.loads((hospital.cohort / "dataset.json").read_text(encoding="utf-8"))
    labels = {int(value): text for value, text in content["labels"].items() if value != "0"}
    for patient in (1, 2, 3):
        if any(file.SeriesDescription == "drawn" for file in hospital.archive.segmentations(series_uid(patient))):
            continue
        drawn = nibabel.load(hospital.cohort / hospital.cases[patient - 1]["label"])
        path = draw(hospital.series[patient], drawn, labels, tmp_path / f"{patient}.dcm")
        hospital.archive.store(path)
    before = hospital.server.infer(name, series_uid(4), "image")
    body = {"device": "cpu", "max_epochs": 1, "val_split": 0.3 if name == "weakmedsam" else 0}
    assert hospital.server.ask(f"/train/{name}?run_sync=true", body, "POST") == {}
    told = json.loads((hospital.server.app / "model" / name / "eval" / "run.json").read_text(encoding="utf-8"))
    counts = told["dataset"]["cases"]
    assert counts["training"] + counts["validation"] == 3
    # segments were numbered by the alphabet, the bundle's values are of another order
    for patient in (1, 2, 3):
        found = nibabel.load(hospital.by_name(series_uid(patient)))
        drawn = nibabel.load(hospital.cohort / hospital.cases[patient - 1]["label"])
        counts = [[int((np.asarray(v.dataobj) == value).sum()) for value in labels] for v in (found, drawn)]
        assert counts[0] == counts[1]
    assert hospital.server.infer(name, series_uid(4), "image") != before
