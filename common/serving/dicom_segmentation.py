"""A prediction for a DICOM series as a DICOM Segmentation object, which viewers lay over the series."""

from __future__ import annotations

import importlib.util
import io
import logging
import sys
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform

from ..data.datalist import Case
from ..data.inputs import PROBLEMS
from ..errors import InputError, printable
from ..files.atomic_write import write_atomic
from ..launch.words import truth
from ..volumes.dicom.headers import frame_count
from ..volumes.dicom.series import find_series
from ..volumes.volume import Unreadable

if TYPE_CHECKING:
    from pydicom import Dataset

NIFTI = ".nii.gz"
WANTED: tuple[str, ...] = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
WANTED += ("FrameOfReferenceUID", "Modality", "Rows", "Columns")
PLACED: tuple[str, ...] = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")  # of single slices
# may be empty by the standard, so that anonymised files lack them altogether
BLANK: tuple[str, ...] = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID")
BLANK += ("StudyDate", "StudyTime")
TOLERANCE = 0.02  # mm
LONGEST = 64  # characters of a DICOM long string
LONGEST_DESCRIPTION = 1024  # of a short text
UTF_8 = "ISO_IR 192"
SERIES_NUMBER = 9000  # behind the scanner's own


class WriteDicomSegd(MapTransform):
    """Write `<case>_seg.dcm` beside the label map `<case>_seg.nii.gz` that `SaveImaged` wrote, for a DICOM series.

    One segment for each label, in the order of `label_values`, numbered from 1; frames without a voxel of it are left
    out. Patient and study are those of the series. An image that is no folder is passed over. Where the item has a
    `review` (rows with label, predicted_dice, low, high, why), a segment's description says what it is probably worth.

    Args:
        keys: label maps [1, H, W, D] on the grid of the series, H along a row of pixels, with affine (RAS, mm),
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

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        for key in self.key_iterator(data) if self.wanted else ():
            meta = data[key].meta
            folder = Path(str(meta["filename_or_obj"]))
            if not folder.is_dir():
                continue
            series = read_series(folder)
            label = data[key].as_tensor()[0].cpu().numpy()
            require_same_grid(folder, series, label.shape, data[key].affine.numpy())
            buffer = io.BytesIO()
            make_segmentation(series, label, self.label_values, self.metadata, data.get("review")).save_as(buffer)
            path = write_atomic(str(meta["saved_to"]).removesuffix(NIFTI) + ".dcm", buffer.getvalue())
            print(printable(path), flush=True)
        return dict(data)


def check_series(cases: Iterable[Case], wanted: bool = True) -> None:
    """Look at the headers of every DICOM series before the first prediction, and name what is no series in one line.

    A series of which no segmentation can be written gets `problems`, as `read_images` gives them: it is left out.

    Args:
        wanted: False (or a word for it) looks at nothing.

    Raises:
        InputError: highdicom is missing; or no case is left: one line for each series.
    """
    if not truth("dicom_seg", wanted):
        return
    if importlib.util.find_spec("highdicom") is None:
        raise InputError(
            "dicom_seg: the package highdicom is not installed; wanted (pip install highdicom), or dicom_seg false"
        )
    problems, others = [], []
    left = [case for case in cases if PROBLEMS not in case]
    for case in left:
        if not Path(case["image"]).is_dir():
            others.append(case["case"])
            continue
        try:
            read_series(case["image"])
        except InputError as error:
            case[PROBLEMS] = error.problems
            problems += error.problems
    if problems and all(PROBLEMS in case for case in left):
        raise InputError(problems)
    for line in problems:
        print(f"left out: {printable(line)}", file=sys.stderr, flush=True)
    if others:
        shown = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
        print(f"dicom_seg: no DICOM series, so NIfTI alone is written for: {printable(shown)}", flush=True)


@dataclass(frozen=True)
class SourceSeries:
    """What a segmentation refers to.

    Args:
        headers: of the files: single slices in the order of `slices`, or one of many frames.
        slices: [N], which slice of the label map each frame of the segmentation is.
        size: of the label map [H, W, D], voxels.
        affine: [4, 4], its voxels to RAS mm.
    """

    headers: list[Dataset]
    slices: np.ndarray
    size: tuple[int, int, int]
    affine: np.ndarray


def read_series(folder: str | Path) -> SourceSeries:
    """Return the headers of a DICOM series and where its slices lie on the grid that `read_volume` gives them.

    Raises:
        InputError: as `read_volume`; or a header lacks what a segmentation has to refer to.
    """
    try:
        series = find_series(Path(folder))
    except Unreadable as error:
        raise InputError(f"{folder}: {error}") from error
    files, slices = series.sources()
    many = [path for path, header in files.items() if frame_count(header) > 1]
    if many and len(files) > 1:
        raise InputError(f"{folder}: has {len(files)} files of many frames; for dicom_seg one such file is wanted")
    wanted = WANTED if many else WANTED + PLACED
    for path, header in files.items():
        missing = [name for name in wanted if not header.get(name)]
        if missing:
            raise InputError(f"{path}: has no {', '.join(missing)}; wanted for dicom_seg, which refers to it")
        for name in BLANK:
            header.setdefault(name, "")
        if not many and not header.get("SliceThickness"):  # may be empty too, but highdicom asks for it
            steps = np.diff(series.stack.places) * np.linalg.norm(series.stack.affine[:3, 2])
            header.SliceThickness = round(float(np.median(steps)), 6)
    return SourceSeries(list(files.values()), slices, series.size, series.stack.affine)


def require_same_grid(folder: Path, series: SourceSeries, size: Sequence[int], affine: np.ndarray) -> None:
    """Refuse a label map of another grid than that of the series.

    Args:
        size: of the label map [H, W, D], voxels.
        affine: [4, 4], voxel to RAS in mm.

    Raises:
        InputError: size, directions, spacing or position differ.
    """
    ends = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]) * series.size
    away = (affine - series.affine)[:3] @ np.c_[ends, np.ones(4)].T  # mm, at the grid's ends
    if tuple(size) != series.size or np.abs(away).max() > TOLERANCE:
        columns, rows, slices = series.size
        raise InputError(
            f"{folder}: its grid of {slices} slices of {columns} x {rows} pixels doesn't lie where the prediction of "
            f"{' x '.join(str(n) for n in size)} voxels does; wanted the prediction on the series' own grid"
        )


def make_segmentation(
    series: SourceSeries,
    label: np.ndarray,
    label_values: Sequence[int],
    metadata: Mapping[str, Any],
    review: Sequence[Mapping[str, Any]] | None = None,
) -> Dataset:
    """Return a label map as a binary DICOM Segmentation that refers to every slice of a series.

    Args:
        label: [columns, rows, slices], integers, on the grid of the series; of a series that is unevenly spaced, each
            slice gets what is on the grid's nearest.
        label_values: value of each class in the label map, background first.
        metadata, review: see `WriteDicomSegd`.
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
    worth = {int(row["label"]): described(row) for row in review or ()}
    for segment, value in zip(segments, label_values[1:], strict=True):
        if value in worth:
            segment.SegmentDescription = worth[value]
    label = label[:, :, series.slices]
    numbers = np.zeros(label.shape, np.uint8 if len(label_values) < 256 else np.uint16)
    for number, value in enumerate(label_values[1:], start=1):
        numbers[label == value] = number
    result = highdicom.seg.Segmentation(
        source_images=series.headers,
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


def described(row: Mapping[str, Any]) -> str:
    """Return a row of a review as a DICOM short text: what Dice to expect, and why to look at it."""
    dice = f"Dice of {row['predicted_dice']:.2f} expected ({row['low']:.2f} to {row['high']:.2f}), not measured"
    return "; ".join([dice, *row["why"]]).replace("\\", " ")[:LONGEST_DESCRIPTION]


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
