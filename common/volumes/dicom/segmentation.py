"""DICOM Segmentations as label maps on the grid of the scan that they refer to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..volume import Geometry, Unreadable
from .headers import Frame, find_entry, find_frames, is_dicom

if TYPE_CHECKING:
    from pydicom import Dataset

SOP_CLASS = "1.2.840.10008.5.1.4.1.1.66.4"
BESIDE = 0.1  # voxels that a pixel may lie beside the scan's


@dataclass(frozen=True)
class Segmentation:
    """The header of a DICOM Segmentation.

    Args:
        path: of the file.
        header: without pixels.
    """

    path: Path
    header: Dataset

    @property
    def series(self) -> str:
        """SeriesInstanceUID of the segmentation itself."""
        return str(self.header.get("SeriesInstanceUID", ""))

    @property
    def source(self) -> str:
        """SeriesInstanceUID of the scan, empty where it isn't said."""
        found = self.header.get("ReferencedSeriesSequence") or ()
        return str(found[0].get("SeriesInstanceUID", "")) if found else ""

    @property
    def written(self) -> tuple[str, str]:
        """Date and time of its making, in an order that sorts."""
        for kind in ("Content", "InstanceCreation", "Series"):
            date, time = (str(self.header.get(kind + name) or "") for name in ("Date", "Time"))
            if date:
                return date, time
        return "", ""

    @property
    def is_predicted(self) -> bool:
        """Whether every segment names the artificial intelligence that made it, as ours do; a viewer that lets a person
        correct one writes a new file without that."""
        segments = self.header.get("SegmentSequence") or ()
        named = "SegmentationAlgorithmIdentificationSequence"
        return bool(segments) and all(segment.get(named) for segment in segments)

    @property
    def is_of_dcmjs(self) -> bool:
        """Whether dcmjs wrote it, the library of viewers in a browser such as OHIF."""
        return str(self.header.file_meta.get("ImplementationVersionName", "")).startswith("dcmjs")

    @property
    def names(self) -> dict[int, str]:
        """The label of each segment, by its number."""
        segments = self.header.get("SegmentSequence") or ()
        return {int(item.get("SegmentNumber", 0)): str(item.get("SegmentLabel") or "").strip() for item in segments}

    @property
    def title(self) -> str:
        """What a viewer's list shows of it."""
        return f"DICOM-SEG '{self.header.get('SeriesDescription') or self.path.name}'"


def find_segmentations(paths: Iterable[Path]) -> list[Segmentation]:
    """Return the DICOM Segmentations among files, the oldest first; files that can't be read are none."""
    from pydicom import dcmread

    found = []
    for path in paths:
        if not is_dicom(path):
            continue
        try:
            header = dcmread(path, stop_before_pixels=True)
        except Exception:  # pydicom raises many kinds for a broken file
            continue
        if header.get("SOPClassUID") == SOP_CLASS:
            found.append(Segmentation(path, header))
    return sorted(found, key=lambda one: (one.written, one.series))


def counts_upwards(frames: Sequence[Frame]) -> bool:
    """Return whether the InstanceNumber of single slices grows along their normal anywhere.

    dcmjs puts slices into the order of their places, from the far end of the normal to the near one, and OHIF (as
    MONAI Label 0.8.5 has it) the masks into the order of InstanceNumber: where that is another, masks change places.
    """
    numbered = sorted(frames, key=lambda frame: int(frame.header.get("InstanceNumber") or 0))
    normal = np.cross(*frames[0].orientation)
    return bool((np.diff([normal @ frame.position for frame in numbered]) > 0).any())


def read_segments(segmentation: Segmentation, scan: Geometry) -> np.ndarray:
    """Return on the grid of a scan which segment each voxel belongs to.

    Each frame is put where its own position, orientation and spacing say.

    Args:
        scan: shape [H, W, D] and affine to RAS mm.

    Returns:
        [H, W, D] uint16, numbers of segments, 0 where there is none.

    Raises:
        Unreadable: probabilities instead of masks, pixels that can't be read, a frame of no segment, one that doesn't
            lie on the scan's voxels, two segments at one voxel.
    """
    from pydicom import dcmread

    kind = str(segmentation.header.get("SegmentationType", ""))
    if kind != "BINARY":
        raise Unreadable(f"{segmentation.title} is of the type {kind or 'unknown'}; wanted BINARY")
    frames = list(find_frames([segmentation.path]))
    try:
        pixels = np.reshape(dcmread(segmentation.path).pixel_array, (len(frames), *frames[0].size[::-1]))
    except Exception as error:  # of pydicom, many kinds
        raise Unreadable(
            f"the pixels of {segmentation.title} can't be read; wanted a whole file, uncompressed"
        ) from error
    shape, affine = scan
    result = np.zeros(shape, np.uint16)
    for frame, mask in zip(frames, pixels, strict=True):
        columns_rows = np.argwhere(mask.T)
        if not len(columns_rows):
            continue
        number = find_entry(frame.header, frame.index, "ReferencedSegmentNumber")
        if number not in segmentation.names:
            raise Unreadable(f"{segmentation.title} has a frame of segment {number}, which it doesn't describe")
        place = tuple(_voxels(segmentation, frame, columns_rows, shape, affine).T)
        others = result[place]
        if others.any():
            one, other = segmentation.names[int(others[others > 0][0])], segmentation.names[number]
            raise Unreadable(f"{segmentation.title}: {one} and {other} overlap; wanted one label for each voxel")
        result[place] = number
    return result


def _voxels(
    segmentation: Segmentation, frame: Frame, columns_rows: np.ndarray, shape: tuple[int, ...], affine: np.ndarray
) -> np.ndarray:
    """Return the voxels [N, 3] of a scan (affine to RAS mm) that pixels [N, 2] of a frame are."""
    steps = np.c_[(frame.orientation * frame.spacing[:, None]).T, frame.position]  # a column, a row, the first pixel
    to_ras = np.diag([-1.0, -1.0, 1.0]) @ steps
    to_voxels = np.linalg.inv(affine)[:3] @ np.vstack([to_ras, [0, 0, 1]])
    places = np.c_[columns_rows, np.ones(len(columns_rows))] @ to_voxels.T
    found = np.rint(places).astype(int)
    away = np.abs(places - found).max()
    if away > BESIDE or found.min() < 0 or (found >= shape).any():
        where = f"{away:.2g} voxels beside those of the scan" if away > BESIDE else "outside the scan"
        raise Unreadable(
            f"{segmentation.title} lies {where}, at {frame.name}; wanted it on the scan's own grid: a series whose "
            "slices are tilted or unevenly spaced can't be learnt from as NIfTI that another program made of it"
        )
    return found
