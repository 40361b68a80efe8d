"""Forms of DICOM that readers stumble over, out of an archive and back into it."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.hospital.archive import run_archive
from support.hospital.bright import make_bright
from support.hospital.hard_series import FORMS, bright_by_frame, patient_of, segment_by_frame
from support.hospital.labels import dice
from support.hospital.scans import series_uid

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def forms(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("hard")
    return {name: write(folder / name, patient_of(name)) for name, write in FORMS.items()}


@pytest.fixture(scope="module")
def watched(hospital, forms, tmp_path_factory):
    """An archive of all of them, after the service without a viewer has been there once; and its folder."""
    folder = tmp_path_factory.mktemp("watched")
    with run_archive(folder / "archive") as archive:
        for name, place in forms.items():
            archive.store(place)
            if name == "with_localizer":
                archive.store(place.with_name("localizer"))
        bundle = make_bright(folder / "bright")
        command = [sys.executable, "-m", "tools.watch", archive.address, "--bundle", str(bundle), "--once"]
        command += ["--output_dir", str(folder / "out"), "--settle", "0", "--tries", "1", "--device", "cpu"]
        done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        yield archive, folder / "out", done.stdout


@pytest.mark.parametrize("form", [form for form in FORMS if form != "gapped"])
def test_the_service_stores_a_segmentation_that_lies_where_the_scan_is_bright(watched, forms, form):
    archive, _, _ = watched
    (found,) = archive.segmentations(series_uid(patient_of(form)))
    assert dice(segment_by_frame(found), bright_by_frame(forms[form])) > 0.9


def test_a_series_with_a_gap_is_named_and_gets_none(watched):
    archive, folder, said = watched
    assert archive.segmentations(series_uid(patient_of("gapped"))) == []
    assert "not segmented" in said and "a gap of" in said
    with (folder / "review.csv").open(encoding="utf-8", newline="") as file:
        assert any("a gap of" in " ".join(row.values()) for row in csv.DictReader(file))


def test_a_second_series_of_a_study_has_a_segmentation_of_its_own(watched, forms):
    archive, _, _ = watched
    (found,) = archive.segmentations(series_uid(patient_of("with_localizer"), 2))
    assert dice(segment_by_frame(found), bright_by_frame(forms["with_localizer"].with_name("localizer"))) > 0.8


@pytest.mark.parametrize("form", ["compressed", "with_localizer"])
def test_monai_labels_server_segments_what_itk_reads(hospital, forms, form, tmp_path):
    import pydicom

    hospital.archive.store(forms[form])
    path, info = tmp_path / "seg.dcm", [{"name": "bright", "model_name": "bright"}]
    path.write_bytes(hospital.server.infer("bright", series_uid(patient_of(form)), "dicom_seg", label_info=info))
    assert dice(segment_by_frame(pydicom.dcmread(path)), bright_by_frame(forms[form])) > 0.9
