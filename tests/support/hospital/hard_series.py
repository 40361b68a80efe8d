"""Scans of one bright ellipsoid in forms of DICOM that readers stumble over, each of a patient of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import RLELossless

from support.data.dicom_series import move_slices, write_enhanced
from support.data.ellipsoid import GEOMETRIES, scan
from support.hospital.scans import series_uid, study_uid, write_ellipsoid, write_scan

FIRST = 11  # patient of the first form; the others follow


def tilted(folder: Path, patient: int) -> Path:
    """Slices that run obliquely to their normal."""
    return write_ellipsoid(folder, "gantry tilt", patient)


def uneven(folder: Path, patient: int) -> Path:
    """Every third slice lies 1 mm further along the normal."""
    series = write_ellipsoid(folder, "LPS", patient)
    slices = range(0, GEOMETRIES["LPS"][1][2], 3)
    return move_slices(series, dict.fromkeys(slices, (0.0, 0.0, 1.0)))


def compressed(folder: Path, patient: int) -> Path:
    """Pixels in run lengths."""
    series = write_ellipsoid(folder, "oblique", patient)
    for path in series.iterdir():
        file = pydicom.dcmread(path)
        file.compress(RLELossless, generate_instance_uid=False)
        file.save_as(path)
    return series


def enhanced(folder: Path, patient: int) -> Path:
    """All slices in one file, in no order of space."""
    voxels, affine = scan(*GEOMETRIES["oblique"])
    order = np.random.default_rng(0).permutation(voxels.shape[2]).tolist()
    path = write_enhanced(folder / "all.dcm", voxels, affine, order)
    file = pydicom.dcmread(path)
    file.StudyInstanceUID, file.SeriesInstanceUID = study_uid(patient), series_uid(patient)
    file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID = f"{series_uid(patient)}.1"
    file.PatientName, file.PatientID = f"Sample^{patient}", f"sample-{patient}"
    file.save_as(path)
    return folder


def with_localizer(folder: Path, patient: int) -> Path:
    """A study of two series; the second one, three thick slices in another direction, lies beside the first."""
    voxels, affine = scan(*GEOMETRIES["oblique"])
    turned = affine @ np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    thin = np.ascontiguousarray(voxels.transpose(0, 2, 1)[:, :, 4:28:10])
    turned[:3, 3] += turned[:3, 2] * 4
    turned[:3, 2] *= 10
    write_scan(folder / "localizer", thin, turned, patient, series=2)
    return write_ellipsoid(folder / "scan", "oblique", patient)


def gapped(folder: Path, patient: int) -> Path:
    """As if ten slices were missing in the middle: the second half lies so much further along."""
    series = write_ellipsoid(folder, "oblique", patient)
    moved = {n: tuple(series_step(series) * 10) for n in range(15, GEOMETRIES["oblique"][1][2])}
    return move_slices(series, moved)


def series_step(series: Path) -> np.ndarray:
    """Return the step from slice to slice, mm in LPS."""
    files = [pydicom.dcmread(path) for path in series.iterdir()]
    files.sort(key=lambda file: int(str(file.SOPInstanceUID).rpartition(".")[2]))
    first, second = (np.array(file.ImagePositionPatient, float) for file in files[:2])
    return second - first


FORMS: dict[str, Callable[[Path, int], Path]] = {
    form.__name__: form for form in (tilted, uneven, compressed, enhanced, with_localizer, gapped)
}


def patient_of(form: str) -> int:
    return FIRST + list(FORMS).index(form)


def bright_by_frame(series: Path) -> dict[tuple[str, int], np.ndarray]:
    """Return what a form shows brightly [rows, columns], by SOPInstanceUID and number of the frame, 1 where it is the
    only one."""
    result = {}
    for path in series.iterdir():
        file = pydicom.dcmread(path)
        pixels = file.pixel_array.reshape(-1, file.Rows, file.Columns)
        result |= {(str(file.SOPInstanceUID), number): mask > 300 for number, mask in enumerate(pixels, start=1)}
    return result


def segment_by_frame(file: pydicom.Dataset) -> dict[tuple[str, int], np.ndarray]:
    """Return the masks [rows, columns] of a segmentation of one segment, by what they lie on, as above."""
    pixels, result = file.pixel_array.reshape(-1, file.Rows, file.Columns), {}
    for mask, groups in zip(pixels, file.PerFrameFunctionalGroupsSequence, strict=True):
        source = groups.DerivationImageSequence[0].SourceImageSequence[0]
        result[str(source.ReferencedSOPInstanceUID), int(source.get("ReferencedFrameNumber", 1))] = mask
    return result
