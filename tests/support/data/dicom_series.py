"""A DICOM series on disk, and what a DICOM-SEG says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian

from common.volumes.read import read_geometry, read_volume
from common.volumes.volume import Unreadable


def write_series(folder: Path, voxels: np.ndarray, affine: np.ndarray, **changes) -> Path:
    """Write [columns, rows, slices] with an affine (RAS, mm) as one CT file a slice, names in no order of space."""
    folder.mkdir(parents=True)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    names = np.random.default_rng(0).permutation(voxels.shape[2])
    for index in range(voxels.shape[2]):
        item = Dataset()
        item.file_meta = FileMetaDataset()
        item.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        item.SpecificCharacterSet = "ISO_IR 100"
        item.SOPClassUID, item.SOPInstanceUID = CTImageStorage, f"1.2.826.0.1.3680043.1.{index + 1}"
        item.StudyInstanceUID, item.SeriesInstanceUID = "1.2.826.0.1.3680043.2", "1.2.826.0.1.3680043.3"
        item.FrameOfReferenceUID, item.Modality = "1.2.826.0.1.3680043.4", "CT"
        item.PatientName, item.PatientID, item.InstanceNumber = "Müller^Änne", "p1", int(names[index]) + 1
        item.ImagePositionPatient = [f"{v:.6f}" for v in (lps @ [0, 0, index, 1])[:3]]
        item.ImageOrientationPatient = [f"{v:.8f}" for v in (lps[:3, :2] / spacing[:2]).T.ravel()]
        item.PixelSpacing = [f"{spacing[1]:.6f}", f"{spacing[0]:.6f}"]
        item.Columns, item.Rows = voxels.shape[:2]
        item.SamplesPerPixel, item.PhotometricInterpretation, item.PixelRepresentation = 1, "MONOCHROME2", 1
        item.BitsAllocated, item.BitsStored, item.HighBit = 16, 16, 15
        item.RescaleIntercept, item.RescaleSlope = "0", "1"
        item.PixelData = np.ascontiguousarray(voxels[:, :, index].T, dtype="<i2").tobytes()
        for name, value in changes.items():
            delattr(item, name) if value is None else setattr(item, name, value)
        item.save_as(folder / f"{names[index]:03d}.dcm", enforce_file_format=True)
    return folder


def edit_series(folder: Path, change: Callable[[int, pydicom.Dataset], object]) -> Path:
    """Change each slice's file, numbered by where `write_series` has it in the volume."""
    files = {pydicom.dcmread(path).SOPInstanceUID.rsplit(".")[-1]: path for path in folder.iterdir()}
    for number, path in files.items():
        item = pydicom.dcmread(path)
        change(int(number) - 1, item)
        item.save_as(path)
    return folder


def move_slices(folder: Path, offsets: Mapping[int, Sequence[float]]) -> Path:
    """Move slices by mm in LPS; the pixels stay."""

    def change(number: int, item: pydicom.Dataset) -> None:
        position = np.array(item.ImagePositionPatient, float) + offsets.get(number, (0.0, 0.0, 0.0))
        item.ImagePositionPatient = [f"{value:.6f}" for value in position]

    return edit_series(folder, change)


def set_all(**values: object) -> Callable[[int, pydicom.Dataset], None]:
    """Set entries of a slice, or delete those that are None; for `edit_series`."""

    def change(number: int, item: pydicom.Dataset) -> None:
        for name, value in values.items():
            delattr(item, name) if value is None else setattr(item, name, value)

    return change


def write_enhanced(path: Path, voxels: np.ndarray, affine: np.ndarray, order: Sequence[int] | None = None) -> Path:
    """Write [columns, rows, slices] as one enhanced CT file whose frames stand in the order given."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    item = Dataset()
    item.file_meta = FileMetaDataset()
    item.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    item.SOPClassUID, item.SOPInstanceUID = EnhancedCTImageStorage, "1.2.826.0.1.3680043.7"
    item.StudyInstanceUID, item.SeriesInstanceUID = "1.2.826.0.1.3680043.2", "1.2.826.0.1.3680043.3"
    item.FrameOfReferenceUID, item.Modality, item.InstanceNumber = "1.2.826.0.1.3680043.4", "CT", 1
    item.Columns, item.Rows, item.NumberOfFrames = voxels.shape
    item.SamplesPerPixel, item.PhotometricInterpretation, item.PixelRepresentation = 1, "MONOCHROME2", 1
    item.BitsAllocated, item.BitsStored, item.HighBit = 16, 16, 15
    shared = {"PixelMeasuresSequence": {"PixelSpacing": [f"{spacing[1]:.6f}", f"{spacing[0]:.6f}"]}}
    shared["PixelMeasuresSequence"]["SliceThickness"] = f"{spacing[2]:.6f}"
    cosines = [f"{v:.8f}" for v in (lps[:3, :2] / spacing[:2]).T.ravel()]
    shared["PlaneOrientationSequence"] = {"ImageOrientationPatient": cosines}
    shared["PixelValueTransformationSequence"] = {"RescaleSlope": "1", "RescaleIntercept": "0", "RescaleType": "HU"}
    item.SharedFunctionalGroupsSequence = Items([_groups(shared)])
    order = range(voxels.shape[2]) if order is None else order
    frames = []
    for number, index in enumerate(order, start=1):
        position = [f"{v:.6f}" for v in (lps @ [0, 0, index, 1])[:3]]
        content = {"DimensionIndexValues": [1, number], "StackID": "1", "InStackPositionNumber": number}
        groups = {"PlanePositionSequence": {"ImagePositionPatient": position}, "FrameContentSequence": content}
        frames.append(_groups(groups))
    item.PerFrameFunctionalGroupsSequence = Items(frames)
    item.PixelData = np.ascontiguousarray(voxels[:, :, list(order)].T, dtype="<i2").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    item.save_as(path, enforce_file_format=True)
    return path


def _groups(groups: Mapping[str, Mapping[str, object]]) -> Dataset:
    result = Dataset()
    for name, entries in groups.items():
        item = Dataset()
        for key, value in entries.items():
            setattr(item, key, value)
        setattr(result, name, Items([item]))
    return result


def read_back(path: Path, series: Path) -> tuple[pydicom.Dataset, dict[int, np.ndarray]]:
    """Return a segmentation and, for each segment, its mask on the grid that SimpleITK gives the series.

    Frames are put where their position in space is, so that a wrong order, axis or direction shows.
    """
    found = pydicom.dcmread(path)
    source = itk_series(series)
    bits = np.unpackbits(np.frombuffer(found.PixelData, np.uint8), bitorder="little")
    frames = bits[: found.NumberOfFrames * found.Rows * found.Columns].reshape(-1, found.Rows, found.Columns)
    assert np.array_equal(frames, found.pixel_array.reshape(frames.shape))
    shared = found.SharedFunctionalGroupsSequence[0]
    across, down = np.reshape(shared.PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3)).astype(float)
    step = [float(v) for v in shared.PixelMeasuresSequence[0].PixelSpacing]
    masks = {item.SegmentNumber: np.zeros(source.GetSize(), bool) for item in found.SegmentSequence}
    assert len(found.PerFrameFunctionalGroupsSequence) == found.NumberOfFrames
    order = []
    for frame, group in zip(frames, found.PerFrameFunctionalGroupsSequence, strict=True):
        groups = [part for part in (group, shared) if "SegmentIdentificationSequence" in part]
        number = groups[0].SegmentIdentificationSequence[0].ReferencedSegmentNumber
        position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        order.append((number, *group.FrameContentSequence[0].DimensionIndexValues))
        image = group.DerivationImageSequence[0].SourceImageSequence[0]
        file = next(p for p in series.iterdir() if pydicom.dcmread(p).SOPInstanceUID == image.ReferencedSOPInstanceUID)
        assert np.allclose(np.array(pydicom.dcmread(file).ImagePositionPatient, float), position)
        for row, column in zip(*np.nonzero(frame), strict=True):
            point = position + across * step[1] * column + down * step[0] * row
            masks[number][source.TransformPhysicalPointToIndex(point.tolist())] = True
    assert order == sorted(order)
    return found, masks


def masks_by_position(found: pydicom.Dataset) -> dict[tuple[int, tuple[float, ...]], np.ndarray]:
    """Return the mask [columns, rows] of each segment at each position."""
    result = {}
    for frame, group in zip(found.pixel_array, found.PerFrameFunctionalGroupsSequence, strict=True):
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        result[number, tuple(float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient)] = frame.T > 0
    return result


def itk_series(folder: Path) -> SimpleITK.Image:
    return SimpleITK.ReadImage(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))


def refused(folder: Path) -> str:
    """Return the line that reading a series ends with, which is the same for its geometry alone."""
    lines = []
    for read in (read_volume, read_geometry):
        with pytest.raises(Unreadable) as caught:
            read(folder)
        lines.append(str(caught.value))
    assert lines[0] == lines[1] and "\n" not in lines[0] and "wanted" in lines[0]
    return lines[0]
