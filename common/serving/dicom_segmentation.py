"""A prediction for a DICOM series as a DICOM Segmentation object, which viewers lay over the series."""

from __future__ import annotations

import importlib.util
import io
import logging
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform
from torch import Tensor

from ..data.datalist import Case
from ..errors import InputError, printable
from ..files.atomic_write import write_atomic
from ..launch.words import truth

if TYPE_CHECKING:
    from pydicom import Dataset

NIFTI = ".nii.gz"
WANTED: tuple[str, ...] = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
WANTED += ("FrameOfReferenceUID", "Modality", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
WANTED += ("Rows", "Columns")
# may be empty by the standard, so that anonymised files lack them altogether
BLANK: tuple[str, ...] = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID")
BLANK += ("StudyDate", "StudyTime")
TOLERANCE = 0.02  # mm; positions are decimal texts of few digits
LONGEST = 64  # characters of a DICOM long string
UTF_8 = "ISO_IR 192"
SERIES_NUMBER = 9000  # behind the scanner's own


class WriteDicomSegd(MapTransform):
    """Write `<case>_seg.dcm` beside the label map `<case>_seg.nii.gz` that `SaveImaged` wrote, for a DICOM series.

    One segment for each label, in the order of `label_values`, numbered from 1; frames without a voxel of it are left
    out. Patient and study are those of the series. An image that is no folder is passed over.

    Args:
        keys: label maps [1, H, W, D] on the series' own grid, H along a row of pixels, with affine (RAS, mm),
            `filename_or_obj` and `saved_to` in their meta.
        label_values: value of each class in the label map, background first.
        metadata: content of metadata.json: name, version, and the `channel_def` of the output `pred`.
        wanted: False (or a word for it) writes nothing.

    Raises:
        InputError: as `read_series`; or the label map does not lie on the grid of the series.
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_values: Sequence[int],
        metadata: Mapping[str, Any],
        wanted: bool = True,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.label_values, self.metadata = [int(value) for value in label_values], dict(metadata)
        self.wanted = truth("dicom_seg", wanted)

    def __call__(self, data: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        for key in self.key_iterator(data) if self.wanted else ():
            meta = data[key].meta
            folder = Path(str(meta["filename_or_obj"]))
            if not folder.is_dir():
                continue
            series = read_series(folder)
            label = data[key].as_tensor()[0].cpu().numpy()
            require_same_grid(folder, series, label.shape, data[key].affine.numpy())
            buffer = io.BytesIO()
            make_segmentation(series, label, self.label_values, self.metadata).save_as(buffer)
            path = write_atomic(str(meta["saved_to"]).removesuffix(NIFTI) + ".dcm", buffer.getvalue())
            print(printable(path), flush=True)
        return dict(data)


def check_series(cases: Iterable[Case], wanted: bool = True) -> None:
    """Look at the headers of every DICOM series before the first prediction, and name what is no series in one line.

    Args:
        wanted: False (or a word for it) looks at nothing.

    Raises:
        InputError: highdicom is missing, or one line for every series of which no segmentation can be written.
    """
    if not truth("dicom_seg", wanted):
        return
    if importlib.util.find_spec("highdicom") is None:
        raise InputError(
            "dicom_seg: the package highdicom is not installed; wanted (pip install highdicom), or dicom_seg false"
        )
    problems, others = [], []
    for case in cases:
        if not Path(case["image"]).is_dir():
            others.append(case["case"])
            continue
        try:
            read_series(case["image"])
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    if others:
        shown = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
        print(f"dicom_seg: no DICOM series, so NIfTI alone is written for: {printable(shown)}", flush=True)


def read_series(folder: str | Path) -> list[Dataset]:
    """Return the headers of a DICOM series, sorted by position along the normal of its slices.

    Raises:
        InputError: no single-frame slices there, a header lacks what a segmentation has to refer to, or two slices
            share a position.
    """
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    series = []
    for path in sorted(Path(folder).iterdir()):
        if not path.is_file():
            continue
        try:
            header = dcmread(path, stop_before_pixels=True)
        except InvalidDicomError:
            continue
        if "Rows" not in header:  # a DICOMDIR or a report
            continue
        missing = [name for name in WANTED if not header.get(name)]
        if int(header.get("NumberOfFrames") or 1) > 1:
            raise InputError(f"{path}: holds {header.NumberOfFrames} frames; for dicom_seg one slice a file is wanted")
        if missing:
            raise InputError(f"{path}: has no {', '.join(missing)}; wanted for dicom_seg, which refers to it")
        for name in BLANK:
            header.setdefault(name, "")
        series.append(header)
    if not series:
        raise InputError(f"{folder}: found no DICOM slices; wanted for dicom_seg")
    heights = np.array([float(np.dot(_normal(series[0]), header.ImagePositionPatient)) for header in series])
    order = np.argsort(heights)
    steps = np.diff(heights[order])
    if len(steps) and steps.min() < TOLERANCE / 2:
        raise InputError(f"{folder}: has two slices at the same position; for dicom_seg one volume is wanted")
    for header in series:  # may be empty too, but highdicom asks for it
        if not header.get("SliceThickness"):
            header.SliceThickness = round(float(np.median(steps)), 6) if len(steps) else 1.0
    return [series[index] for index in order]


def require_same_grid(folder: Path, series: list[Dataset], size: Sequence[int], affine: np.ndarray) -> None:
    """Turn `series` so that its slices lie along the third axis of a label map; refuse a label map of another grid.

    Args:
        series: as from `read_series`; reversed in place where the third axis runs against the normal.
        size: of the label map [H, W, D], voxels.
        affine: [4, 4], voxel to RAS in mm.

    Raises:
        InputError: number of slices, rows, columns, directions or the position of the first slice differ.
    """
    to_lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    if np.dot(_normal(series[0]), to_lps[:3, 2]) < 0:
        series.reverse()
    first = series[0]
    # DICOM names the direction of a row, along which columns count, first; spacing is that of rows first
    across, down = np.reshape([float(v) for v in first.ImageOrientationPatient], (2, 3))
    spacing = [float(v) for v in first.PixelSpacing]
    far = np.stack([across * spacing[1] * first.Columns, down * spacing[0] * first.Rows], axis=1)  # [3, 2] mm
    ours = to_lps[:3, :2] * [first.Columns, first.Rows]
    same = tuple(size) == (first.Columns, first.Rows, len(series))
    same = same and np.abs(ours - far).max() < 10 * TOLERANCE
    if not same or np.abs(to_lps[:3, 3] - np.array(first.ImagePositionPatient, float)).max() > TOLERANCE:
        raise InputError(
            f"{folder}: its {len(series)} slices of {first.Columns} x {first.Rows} pixels don't lie where the "
            f"prediction of {' x '.join(str(n) for n in size)} voxels does; for dicom_seg one regular series is wanted"
        )


def make_segmentation(
    series: Sequence[Dataset], label: np.ndarray, label_values: Sequence[int], metadata: Mapping[str, Any]
) -> Dataset:
    """Return a label map as a binary DICOM Segmentation that refers to every slice of a series.

    Args:
        series: headers in the order of the label map's third axis.
        label: [columns, rows, slices], integers.
        label_values: value of each class in the label map, background first.
        metadata: see `WriteDicomSegd`.
    """
    import highdicom
    from pydicom.sr.codedict import codes

    logging.getLogger("highdicom").setLevel(logging.WARNING)  # it tells of every module of attributes that it copies
    name, version = _text(metadata.get("name"), "MONAI bundle"), _text(metadata.get("version"), "unknown")
    algorithm = highdicom.AlgorithmIdentificationSequence(name, codes.DCM.ArtificialIntelligence, version)
    segments = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=text,
            # what a label is made of is known by its name alone; 3D Slicer writes and reads these where it has no code
            segmented_property_category=codes.SCT.Tissue,
            segmented_property_type=codes.SCT.Tissue,
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
        )
        for number, text in enumerate(label_names(label_values, metadata), start=1)
    ]
    numbers = np.zeros(label.shape, np.uint8 if len(label_values) < 256 else np.uint16)
    for number, value in enumerate(label_values[1:], start=1):
        numbers[label == value] = number
    result = highdicom.seg.Segmentation(
        source_images=series,
        pixel_array=np.ascontiguousarray(numbers.transpose(2, 1, 0)),  # [slices, rows, columns]
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=segments,
        series_instance_uid=highdicom.UID(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer=_text(metadata.get("authors"), "unknown"),
        manufacturer_model_name=name,
        software_versions=version,
        device_serial_number=version,
        content_label="SEGMENTATION",
        content_description=_text(metadata.get("task"), name),
        specific_character_set=UTF_8,
    )
    result.SeriesDescription = name
    return result


def label_names(label_values: Sequence[int], metadata: Mapping[str, Any]) -> list[str]:
    """Return the name of each label but the background: that of its channel in metadata.json, or "label 3".

    The metadata's names are used where it has one for each class of the model.
    """
    outputs = metadata.get("network_data_format", {}).get("outputs", {})
    names = outputs.get("pred", {}).get("channel_def", {})
    if set(names) != {str(channel) for channel in range(len(label_values))}:
        names = {}
    return [
        _text(names.get(str(channel)), f"label {value}") for channel, value in enumerate(label_values) if channel > 0
    ]


def _text(value: Any, otherwise: str) -> str:
    """Return a text that a DICOM long string can hold."""
    return " ".join(str(value or otherwise).replace("\\", " ").split())[:LONGEST]


def _normal(header: Dataset) -> np.ndarray:
    across, down = np.reshape([float(v) for v in header.ImageOrientationPatient], (2, 3))
    return np.cross(across, down)
