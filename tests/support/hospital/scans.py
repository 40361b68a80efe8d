"""Scans of the sample cohort as a hospital's archive holds them: series of studies of patients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
from pydicom.uid import MRImageStorage

from support.data.dicom_series import edit_series, write_series
from support.data.ellipsoid import GEOMETRIES, scan

ROOT = "1.2.826.0.1.3680043.10.543"  # whose numbers after it say patient, series and slice


def series_uid(patient: int, series: int = 1) -> str:
    return f"{ROOT}.{patient}.{series}"


def study_uid(patient: int) -> str:
    return f"{ROOT}.{patient}"


def write_scan(
    folder: Path,
    voxels: np.ndarray,
    affine: np.ndarray,
    patient: int,
    series: int = 1,
    modality: str = "CT",
    upwards: bool = False,
) -> Path:
    """Write [columns, rows, slices] with an affine (RAS, mm) as a series of a patient's only study.

    Args:
        upwards: whether InstanceNumber grows along the normal of the slices, as in many MR; else against it, as in most
            CT.
    """
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    along = upwards == (np.linalg.det(lps[:3, :3]) > 0)  # whether the slices' own order is the numbers'
    low, high = np.percentile(voxels, [1, 99])
    thickness = float(np.linalg.norm(affine[:3, 2]))

    def describe(index: int, item: pydicom.Dataset) -> None:
        item.StudyInstanceUID, item.SeriesInstanceUID = study_uid(patient), series_uid(patient, series)
        item.SOPInstanceUID = f"{series_uid(patient, series)}.{index + 1}"
        item.FrameOfReferenceUID = f"{study_uid(patient)}.0"
        item.PatientName, item.PatientID = f"Sample^{patient}", f"sample-{patient}"
        item.PatientBirthDate, item.PatientSex, item.AccessionNumber, item.StudyID = "", "", f"A{patient}", "1"
        item.StudyDate, item.StudyTime, item.StudyDescription = "20260101", f"{patient:02d}0000", "Generated abdomen"
        item.SeriesNumber, item.SeriesDescription, item.Modality = series, f"{modality} {series}", modality
        item.SliceThickness, item.WindowCenter, item.WindowWidth = thickness, (low + high) / 2, max(high - low, 1)
        item.InstanceNumber = index + 1 if along else voxels.shape[2] - index
        item.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        if modality == "MR":
            item.SOPClassUID = item.file_meta.MediaStorageSOPClassUID = MRImageStorage
            item.ImageType = ["ORIGINAL", "PRIMARY", "M"]
            item.ScanningSequence, item.SequenceVariant, item.ScanOptions = "GR", "NONE", ""
            item.MRAcquisitionType, item.RepetitionTime, item.EchoTime, item.EchoTrainLength = "3D", 8, 4, 1
        item.file_meta.MediaStorageSOPInstanceUID = item.SOPInstanceUID

    return edit_series(write_series(folder, voxels, affine), describe)


def write_case(folder: Path, image: Path, patient: int, **settings: Any) -> Path:
    """Write a NIfTI file as `write_scan` does."""
    volume = nibabel.load(image)
    return write_scan(folder, np.asarray(volume.dataobj), volume.affine, patient, **settings)


def write_ellipsoid(folder: Path, geometry: str, patient: int, **settings: Any) -> Path:
    """Write the scan of `support.data.ellipsoid` on one of its grids as `write_scan` does."""
    voxels, affine = scan(*GEOMETRIES[geometry])
    voxels = voxels.copy()
    # a data set refuses two scans of the same voxels; and OHIF reads a slice whose values fit into 8 bits as such, and
    # then downloads nothing of an odd number of pixels (docs/monailabel.md)
    voxels[0, 0, :] = -1000 - patient
    return write_scan(folder, voxels, affine, patient, **settings)


def bright_by_slice(series: Path) -> dict[str, np.ndarray]:
    """Return what an ellipsoid's scan shows brightly [rows, columns], by the slice's SOPInstanceUID."""
    files = [pydicom.dcmread(path) for path in series.iterdir()]
    return {str(file.SOPInstanceUID): file.pixel_array > 300 for file in files}
