"""A DICOM series on disk, and what a DICOM-SEG says of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import SimpleITK
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian


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


def itk_series(folder: Path) -> SimpleITK.Image:
    return SimpleITK.ReadImage(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
