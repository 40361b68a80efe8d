"""The frames of DICOM files: where each lies by its header, and whether all of them can be slices of one volume."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..volume import Unreadable, first_line

if TYPE_CHECKING:
    from pydicom import Dataset

SUFFIXES = (".dcm", ".ima")
DICOMDIR = "1.2.840.10008.1.3.10"  # its SOP class, which has no series
UNTURNED = 1e-2  # by which the length of a direction cosine and the right angle of two may be off
FAR_CORNER = 0.5  # pixels that the corner of a slice may lie beside the others', by its own direction and spacing
# what tells of two slices at one position why there are two
APART: tuple[str, ...] = ("AcquisitionNumber", "TemporalPositionIdentifier", "TemporalPositionIndex", "EchoNumbers")
APART += ("EchoTime", "EffectiveEchoTime", "DiffusionBValue", "TriggerTime", "AcquisitionTime", "ContentTime")
APART += ("ImageType", "ConvolutionKernel", "InstanceNumber")
PER_FRAME, SHARED = "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"


@dataclass(frozen=True)
class Frame:
    """One frame of a DICOM file.

    Args:
        path: of the file.
        header: of the file, without pixels.
        index: of the frame in the file.
        position: [3] of the first pixel, LPS mm.
        orientation: [2, 3], direction along a row and down a column, LPS.
        spacing: [2], from column to column and from row to row, mm.
        thickness: of the slice, mm; NaN where it is not known.
    """

    path: Path
    header: Dataset
    index: int
    position: np.ndarray
    orientation: np.ndarray
    spacing: np.ndarray
    thickness: float

    @property
    def size(self) -> tuple[int, int]:
        """Columns, rows."""
        return int(self.header.Columns), int(self.header.Rows)

    @property
    def name(self) -> str:
        """The file's name, and which frame of it where it has many."""
        count = frame_count(self.header)
        return self.path.name if count == 1 else f"frame {self.index + 1} of {self.path.name}"


def find_frames(paths: Iterable[Path]) -> list[Frame]:
    """Read the headers of those files that are DICOM images, and return their frames, which are of one series, of one
    size, parallel, and of one pixel spacing.

    Files that are no DICOM, and DICOM that is no image (a DICOMDIR, a report), are passed over.

    Raises:
        Unreadable: a file whose name says that it is DICOM and that is none; an image that is cut off; no image; more
            than one series or frame of reference; colours; a frame without position, orientation or pixel spacing;
            frames that differ in size, orientation or pixel spacing.
    """
    headers = {path: header for path in paths if (header := _read_header(path)) is not None}
    images = {path: header for path, header in headers.items() if "Rows" in header and "Columns" in header}
    if not images:
        raise Unreadable("not a readable DICOM series (found no DICOM slices); wanted the files of one")
    kinds = {_kind(header) for header in images.values()}
    for path, header in headers.items():
        cut = _kind(header) in kinds or ("SeriesInstanceUID" not in header and _kind(header) != DICOMDIR)
        if path not in images and cut:
            raise Unreadable(f"{path.name} is an image without a size, as if cut off; wanted whole DICOM files")
    _require_one_series(list(images.values()))
    frames = [frame for path, header in images.items() for frame in _frames_of(path, header)]
    _require_parallel(frames)
    return frames


def frame_count(header: Dataset) -> int:
    """Return how many frames a file holds; single slices don't say."""
    return int(header.get("NumberOfFrames") or 1)


def frame_rescale(header: Dataset) -> np.ndarray | None:
    """Return slope and intercept [N, 2] of a file's frames where they are not the same for all."""
    if frame_count(header) == 1:
        return None
    frames = range(frame_count(header))
    slopes, intercepts = (
        [_numbers(find_entry(header, index, name), 1)[0] for index in frames]
        for name in ("RescaleSlope", "RescaleIntercept")
    )
    found = np.stack([np.nan_to_num(slopes, nan=1.0), np.nan_to_num(intercepts)], axis=1)
    return None if len(np.unique(found, axis=0)) == 1 else found


def find_entry(header: Dataset, index: int, name: str) -> Any:
    """Return an entry of a frame: of its own functional groups, of those that all frames share, or of the file."""
    own, shared = header.get(PER_FRAME) or (), header.get(SHARED) or ()
    for groups in (*own[index : index + 1], *shared[:1]):
        for element in groups:
            if element.VR == "SQ" and element.value and name in element.value[0]:
                return element.value[0].get(name)
    return header.get(name)


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM files do."""
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_modality(path: Path) -> str:
    """Return the Modality that the first DICOM file of a folder names, such as CT; empty where there is none."""
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else []
    first = next((file for file in files if is_dicom(file)), None)
    try:
        header = None if first is None else _read_header(first)
    except Unreadable:  # which is said where it is read
        return ""
    return "" if header is None else str(header.get("Modality") or "")


def describe_difference(one: Frame, other: Frame) -> str:
    """Return in which entry two frames at one position differ, as "EchoTime 30, 80", or nothing."""
    for name in APART:
        values = [find_entry(frame.header, frame.index, name) for frame in (one, other)]
        if None not in values and values[0] != values[1]:
            shown = [
                str(value) if isinstance(value, str | float | int) else "\\".join(map(str, value)) for value in values
            ]
            return f"{name} {shown[0]}, {shown[1]}"
    return ""


def _read_header(path: Path) -> Dataset | None:
    try:
        from pydicom import dcmread
        from pydicom.errors import InvalidDicomError
    except ImportError as error:
        raise Unreadable("the package pydicom is not installed; wanted (pip install pydicom) to read DICOM") from error
    try:
        return dcmread(path, stop_before_pixels=True)
    except InvalidDicomError as error:
        with open(path, "rb") as file:
            if file.read(2) in (b"\x02\x00", b"\x08\x00"):  # old files begin with their first group, without a preamble
                header = dcmread(path, stop_before_pixels=True, force=True)
                if "SOPClassUID" in header:
                    return header
        if path.suffix.lower() in SUFFIXES:
            raise Unreadable(f"{path.name} is no DICOM file; wanted DICOM, as its name says") from error
        return None
    except Exception as error:  # pydicom raises many kinds for a broken file
        raise Unreadable(f"{path.name} is no readable DICOM file ({first_line(error)}); wanted whole files") from error


def _kind(header: Dataset) -> str:
    """Return the SOP class of a file, by what comes first in it."""
    return str(header.file_meta.get("MediaStorageSOPClassUID") or header.get("SOPClassUID", ""))


def _require_one_series(headers: Sequence[Dataset]) -> None:
    series = Counter(str(header.get("SeriesInstanceUID", "")) for header in headers)
    if len(series) > 1:
        first = {str(header.get("SeriesInstanceUID", "")): header for header in reversed(headers)}
        shown = ", ".join(
            f"{first[uid].get('Modality') or 'series'} {first[uid].get('SeriesNumber') or ''}".strip()
            + f" of {count} files"
            for uid, count in series.most_common(3)
        )
        more = ", ..." if len(series) > 3 else ""
        raise Unreadable(f"more than one DICOM series ({len(series)}: {shown}{more}); wanted one in a folder")
    if len({str(uid) for header in headers if (uid := header.get("FrameOfReferenceUID"))}) > 1:
        raise Unreadable("slices of more than one FrameOfReferenceUID; wanted positions in one frame of reference")
    for header in headers:
        if int(header.get("SamplesPerPixel") or 1) != 1:
            raise Unreadable(f"{header.SamplesPerPixel} colours a pixel; wanted one grey channel")


def _frames_of(path: Path, header: Dataset) -> Iterable[Frame]:
    count = frame_count(header)
    if count > 1 and len(header.get(PER_FRAME) or ()) != count:
        raise Unreadable(
            f"{path.name} holds {count} frames and doesn't tell the position of each; wanted single slices"
        )
    for index in range(count):
        found = {
            name: _numbers(find_entry(header, index, name), size)
            for name, size in (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2))
        }
        orientation = np.reshape(found["ImageOrientationPatient"], (2, 3))
        frame = Frame(
            path,
            header,
            index,
            found["ImagePositionPatient"],
            orientation,
            found["PixelSpacing"][::-1],  # DICOM has the distance of rows first
            float(_numbers(find_entry(header, index, "SliceThickness"), 1)[0]),
        )
        missing = [name for name, value in found.items() if not np.isfinite(value).all()]
        if missing:
            raise Unreadable(f"{frame.name} has no {', '.join(missing)}; wanted slices that say where they lie")
        if frame.spacing.min() <= 0:
            raise Unreadable(f"{frame.name} has the PixelSpacing {header.get('PixelSpacing')}; wanted more than 0 mm")
        if np.abs(orientation @ orientation.T - np.eye(2)).max() > UNTURNED:
            shown = orientation.round(4).ravel().tolist()
            raise Unreadable(
                f"{frame.name} has the ImageOrientationPatient {shown}; wanted two directions at right angles"
            )
        yield frame


def _require_parallel(frames: Sequence[Frame]) -> None:
    sizes = Counter(frame.size for frame in frames)
    (columns, rows), _ = sizes.most_common(1)[0]
    others = [frame for frame in frames if frame.size != (columns, rows)]
    if others:
        raise Unreadable(
            f"{len(others)} of {len(frames)} slices of another size than the others ({others[0].name}: "
            f"{others[0].size[0]} x {others[0].size[1]} pixels, not {columns} x {rows}); wanted slices of one size"
        )
    sides = np.array(
        [frame.orientation * frame.spacing[:, None] * [[columns], [rows]] for frame in frames]
    )  # [N, 2, 3] mm
    # the kind that most are of: one of them is left, where the localizers stand first
    usual = Counter(tuple(frame.orientation.round(2).ravel() + 0.0) for frame in frames).most_common(1)[0][0]
    middle = next(n for n, frame in enumerate(frames) if tuple(frame.orientation.round(2).ravel() + 0.0) == usual)
    away = np.abs(sides - sides[middle]).max((1, 2)) > FAR_CORNER * frames[middle].spacing.min()
    if away.any():
        other = frames[int(away.argmax())]
        turned = np.abs(other.orientation - frames[middle].orientation).max() * max(columns, rows) > FAR_CORNER
        what, found, wanted = (
            ("orientation", other.orientation.round(4).ravel().tolist(), "parallel slices")
            if turned
            else ("pixel spacing", other.spacing.tolist(), "slices of one pixel spacing")
        )
        raise Unreadable(
            f"{away.sum()} of {len(frames)} slices of another {what} than the others ({other.name}: {found}); "
            f"wanted {wanted}"
        )


def _numbers(value: Any, size: int) -> np.ndarray:
    """Return `size` numbers, NaN where there are none or others."""
    try:
        numbers = np.array(value if size > 1 else [value], dtype=float)
    except (TypeError, ValueError):
        return np.full(size, np.nan)
    return numbers if numbers.shape == (size,) else np.full(size, np.nan)
