"""OHIF in a browser on the same server: look, let a model segment, correct, send back, train, and look again."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pydicom
import pytest

from support.hospital.labels import dice, segments_by_slice
from support.hospital.scans import bright_by_slice, series_uid, study_uid
from support.hospital.site import ELLIPSOID, UPWARDS

PICTURES = os.environ.get("HOSPITAL_PICTURES")  # a folder, for docs/monailabel.md


def picture(ohif, name: str, folder: Path) -> None:
    ohif.picture(Path(PICTURES or folder) / f"ohif_{name}.png")


def equal(sent: dict[str, np.ndarray], shown: dict[str, np.ndarray]) -> bool:
    """Whether a segmentation says of each slice what was shown; of an empty one it says nothing."""
    return all(np.array_equal(sent.get(uid, np.zeros_like(mask)), mask) for uid, mask in shown.items())


def load_stored(hospital, ohif, patient: int, path: Path) -> None:
    """Let the model "bright" segment a series, store its DICOM-SEG, and open that in the mode Segmentation."""
    info = [{"name": "bright", "model_name": f"bright {patient}"}]
    path.write_bytes(hospital.server.infer("bright", series_uid(patient), "dicom_seg", label_info=info))
    hospital.archive.store(path)
    ohif.open("segmentation", study_uid(patient))
    ohif.load(f"bright {patient}", 1)


@pytest.mark.parametrize("patient", [ELLIPSOID, UPWARDS])
def test_a_model_runs_from_the_panel_and_its_overlay_lies_where_the_scan_is_bright(hospital, ohif, patient, tmp_path):
    ohif.open("monai-label", study_uid(patient))
    ohif.connect()
    ohif.run("bright")
    picture(ohif, f"overlay_{patient}", tmp_path)
    assert dice(ohif.labelmap(), bright_by_slice(hospital.series[patient])) > 0.9


def test_a_stored_segmentation_is_corrected_and_sent_back_by_hand(hospital, ohif, tmp_path):
    load_stored(hospital, ohif, ELLIPSOID, tmp_path / "seg.dcm")
    assert ohif.names() == ["bright"]
    before = ohif.labelmap()
    stored = segments_by_slice(pydicom.dcmread(tmp_path / "seg.dcm"))
    assert all(np.array_equal(before[uid], mask) for uid, mask in stored.items())
    ohif.paint(0)
    picture(ohif, "corrected", tmp_path)
    after = ohif.labelmap()
    assert sum(int((after[uid] != before[uid]).any()) for uid in before) == 1
    ohif.upload(ohif.download())
    newest = hospital.archive.segmentations(series_uid(ELLIPSOID))[-1]
    assert newest.file_meta.ImplementationVersionName.startswith("dcmjs")
    sent = segments_by_slice(newest)
    assert equal(sent, after)


def test_what_ohif_writes_of_slices_that_count_upwards_is_mirrored_and_not_learnt_from(hospital, ohif, tmp_path):
    load_stored(hospital, ohif, UPWARDS, tmp_path / "seg.dcm")
    before = ohif.labelmap()
    hospital.archive.store(ohif.download())
    sent = segments_by_slice(hospital.archive.segmentations(series_uid(UPWARDS))[-1])
    order = sorted(before, key=lambda uid: int(uid.rpartition(".")[2]))
    mirrored = dict(zip(order, reversed([before[uid] for uid in order]), strict=True))
    assert equal(sent, mirrored) and not equal(sent, before)
