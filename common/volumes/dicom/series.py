"""DICOM files as one volume: every slice is where the affine says, or the series is refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..volume import Unreadable, Volume, last_line, require_3d, require_geometry
from .headers import Frame, describe_difference, find_frames, frame_count, frame_rescale
from .slice_stack import SliceStack, stack_slices

if TYPE_CHECKING:
    import SimpleITK
    from pydicom import Dataset


@dataclass(frozen=True)
class DicomSeries:
    """The frames of a series in the order of their positions along the normal, and the grid that they lie on."""

    frames: list[Frame]
    stack: SliceStack

    @property
    def size(self) -> tuple[int, int, int]:
        """Of the grid [H, W, D]: columns, rows, slices."""
        return (*self.frames[0].size, self.stack.depth)

    def sources(self) -> tuple[dict[Path, Dataset], np.ndarray]:
        """Return the headers of the files, in the order of their first frames on the grid, and [N] for each frame in
        the files' own order the slice of the grid that lies nearest to it."""
        files = {frame.path: frame.header for frame in self.frames}
        order = {path: number for number, path in enumerate(files)}
        kept = sorted(range(len(self.frames)), key=lambda n: (order[self.frames[n].path], self.frames[n].index))
        return files, self.stack.nearest[kept]


def find_series(path: Path | Iterable[Path]) -> DicomSeries:
    """Find the series of a folder, of a file with many frames, or of some files, by headers alone.

    Raises:
        Unreadable: what `find_frames` and `stack_slices` refuse, a single slice, and what no scan can be.
    """
    if isinstance(path, Path):
        path = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    frames = find_frames(file for file in path if not file.name.startswith("."))
    require_3d((*frames[0].size, len(frames)), np.dtype(np.float32))
    normal = np.cross(*frames[0].orientation)
    frames.sort(key=lambda frame: float(normal @ frame.position))
    stack = stack_slices(
        np.array([frame.position for frame in frames]),
        _read_direction(frames[0]),
        frames[0].spacing,
        np.array([frame.thickness for frame in frames]),
        [frame.name for frame in frames],
        lambda one, other: describe_difference(frames[one], frames[other]),
    )
    series = DicomSeries([frames[index] for index in stack.order], stack)
    require_geometry(series.size, stack.affine)
    return series


def read_dicom(path: Path) -> Volume:
    """Read the series of a folder or of a file with many frames.

    Raises:
        Unreadable: as `find_series`; pixels that can't be read.
    """
    return read_frames(find_series(path))


def read_frames(series: DicomSeries) -> Volume:
    """Read the pixels of a series, slice by slice.

    Where the slices are evenly spaced, the voxels are those of the files, rescaled. Else each slice of the grid is
    interpolated linearly between the two slices beside it, and they are float32 (float64 where the files' are).

    Raises:
        Unreadable: pixels that can't be read.
    """
    slices = _read_slices(series.frames)
    if not series.stack.is_even:
        slices = _interpolate(slices, series.stack)
    first = next(slices)
    array = np.empty((series.stack.depth, *first.shape), first.dtype)
    array[0] = first
    for index, pixels in enumerate(slices, start=1):
        kind = np.result_type(array, pixels)
        array = array.astype(kind, copy=False)  # a slice may be rescaled by a fraction, others not
        array[index] = pixels
    return Volume(array.transpose(2, 1, 0), series.stack.affine)


def _read_direction(frame: Frame) -> np.ndarray:
    """Return [3, 3], columns: along a row, down a column, their normal, LPS; at right angles to the last digit."""
    reader = _reader(frame.path)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise Unreadable(
            f"{frame.path.name} is no readable DICOM image ({last_line(error)}); wanted whole DICOM files"
        ) from error
    return np.reshape(reader.GetDirection(), (3, 3))


def _read_slices(frames: Iterable[Frame]) -> Iterator[np.ndarray]:
    """Yield the pixels [rows, columns] of each frame; a file with many frames is opened once while they follow."""
    path, pixels = None, np.empty(0)
    for frame in frames:
        if frame.path != path:
            path, pixels = frame.path, _read_pixels(frame)
        yield pixels[frame.index]


def _read_pixels(frame: Frame) -> np.ndarray:
    """Return the rescaled pixels [frames, rows, columns] of a frame's file."""
    import SimpleITK

    count, (columns, rows) = frame_count(frame.header), frame.size
    rescale = frame_rescale(frame.header)
    try:
        if rescale is None:
            pixels = SimpleITK.GetArrayFromImage(_reader(frame.path).Execute())
        else:  # ITK takes the first frame's for all
            from pydicom import dcmread

            stored = np.reshape(dcmread(frame.path).pixel_array, (count, rows, columns))
            pixels = stored * rescale[:, 0, None, None] + rescale[:, 1, None, None]
    except Exception as error:  # of ITK and of pydicom, many kinds
        raise Unreadable(
            f"the pixels of {frame.path.name} can't be read: cut off, or compressed in a way that is not known here; "
            "wanted whole DICOM files"
        ) from error
    if pixels.shape != (count, rows, columns):
        raise Unreadable(
            f"{frame.path.name} holds pixels {pixels.shape}; wanted {(count, rows, columns)}, as its header says"
        )
    return pixels


def _reader(path: Path) -> SimpleITK.ImageFileReader:
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    return reader


def _interpolate(slices: Iterator[np.ndarray], stack: SliceStack) -> Iterator[np.ndarray]:
    """Yield each slice of the grid from the two that it lies between; only these are held."""
    below, above, index = next(slices), next(slices), 0
    kind = np.result_type(below, np.float32) if below.dtype.kind == "f" else np.dtype(np.float32)
    for place in range(stack.depth):
        while index + 2 < len(stack.places) and stack.places[index + 1] < place:
            below, above, index = above, next(slices), index + 1
        share = (place - stack.places[index]) / (stack.places[index + 1] - stack.places[index])
        yield ((1 - share) * below + share * above).astype(kind)
