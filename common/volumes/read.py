"""Reading volumes of any format as they are stored, or one clear reason why that can't be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .dicom.headers import is_dicom
from .dicom.series import find_series, read_dicom
from .itk_file import read_itk, read_itk_geometry
from .names import channel_file
from .nifti import check_nifti, find_nifti, read_nifti, read_nifti_geometry
from .volume import Geometry, Unreadable, Volume, compare_grids


def read_volume(path: str | Path) -> Volume:
    """Read NIfTI through nibabel (every byte, the gzip checksum included), a folder or a DICOM file as one DICOM
    series, and all else through SimpleITK.

    Units of a NIfTI header are turned to mm. What a header declares is held against the file's size, and against what
    a scan can be, before memory is taken for it.

    Raises:
        Unreadable: missing, empty, truncated, of another format than its name says; not 3D; RGB or complex; affine,
            spacing or extent that no scan has; too large; voxels in a file outside the header's folder; a DICOM series
            of which a slice is not where its grid has it.
    """
    path = Path(path)
    _require_content(path)
    if _is_dicom(path):
        return read_dicom(path)
    files = find_nifti(path)
    return read_itk(path) if files is None else read_nifti(*files)


def read_channels(path: str | Path, channels: int = 1) -> list[Volume]:
    """Read a scan of several channels: a NIfTI file of four dimensions, or a file of any format for each channel.

    Args:
        path: of the file; where there is one a channel, of the first, which nnU-Net calls CASE_0000 beside CASE_0001.
        channels: wanted; of one it is `read_volume`.

    Returns:
        The channels, on one grid.

    Raises:
        Unreadable: as `read_volume`; another number of channels, or one on another grid than the first.
    """
    path = Path(path)
    files = _channel_files(path, channels)
    if files is None:
        whole = read_nifti(*find_nifti(path), series=True)
        return [Volume(whole.array[..., i], whole.affine, whole.forms) for i in range(channels)]
    volumes = [_of_channel(file, path, read_volume) for file in files]
    for file, volume in zip(files, volumes, strict=True):
        _require_grid_of_first(file, volume.geometry, path, volumes[0].geometry)
    return volumes


def check_channels(path: str | Path, channels: int = 1) -> Geometry:
    """Return (shape, affine to RAS mm) of a scan whose files hold all that their headers declare, as far as sizes tell.

    Raises:
        Unreadable: as `read_channels`, but for voxels that are broken and yet as many as they should be.
    """
    path = Path(path)
    files = _channel_files(path, channels)
    if files is None:
        shape, affine = check_nifti(*find_nifti(path), series=True)
        return (shape[0], shape[1], shape[2]), affine
    found = [_of_channel(file, path, _check_volume) for file in files]
    for file, geometry in zip(files, found, strict=True):
        _require_grid_of_first(file, geometry, path, found[0])
    return found[0]


def _channel_files(path: Path, channels: int) -> list[Path] | None:
    """Return the file of each channel; None: they are in one."""
    if channels == 1:
        return [path]
    found = count_channels(path)
    if found > 1:
        if found != channels:
            raise Unreadable(f"has {found} channels; wanted {channels}")
        return None
    files = [channel_file(path, number) for number in range(channels)]
    if files[0] != path:
        wanted = f"a NIfTI file of four dimensions, or files {files[0].name} to {files[-1].name}"
        raise Unreadable(f"has one channel; wanted {channels}: {wanted}")
    missing = [file.name for file in files if not file.exists()]
    if missing:
        raise Unreadable(f"has no {missing[0]} beside it; wanted {channels} channels, a file each")
    return files


def _of_channel(file: Path, first: Path, read: Callable[[Path], Any]) -> Any:
    try:
        return read(file)
    except Unreadable as error:
        raise Unreadable(str(error) if file == first else f"its channel {file.name}: {error}") from error


def _require_grid_of_first(file: Path, geometry: Geometry, first: Path, wanted: Geometry) -> None:
    wrong = compare_grids(geometry, wanted, first.name)
    if wrong:
        raise Unreadable(f"its channel {file.name}: {wrong[0]}")


def count_channels(path: str | Path) -> int:
    """Return how many channels one file holds, by its header: those of a NIfTI file of four dimensions, else 1.

    Raises:
        Unreadable: a NIfTI header that is none.
    """
    path = Path(path)
    _require_content(path)
    files = None if path.is_dir() else find_nifti(path)
    shape = () if files is None else read_nifti_geometry(*files)[0]
    return int(shape[3]) if len(shape) == 4 else 1


def read_geometry(path: str | Path) -> tuple[tuple[int, int, int], np.ndarray]:
    """Return (shape in voxels, affine to RAS mm) of a volume as stored, from its header where the format has one.

    Of a scan of several channels it is that of each; how many there are is for `read_channels` to tell.

    Raises:
        Unreadable: as `read_volume`, of which this looks at the header only.
    """
    path = Path(path)
    _require_content(path)
    if _is_dicom(path):
        series = find_series(path)
        return series.size, series.stack.affine
    files = find_nifti(path)
    if files is None:
        return read_itk_geometry(path)
    shape, affine = read_nifti_geometry(*files)
    return (shape[0], shape[1], shape[2]), affine


def _check_volume(path: Path) -> Geometry:
    """Return what `read_geometry` does, of a file that holds all that its header declares as far as its size tells."""
    files = None if path.is_dir() or not path.exists() or path.stat().st_size == 0 else find_nifti(path)
    if files is None:
        return read_geometry(path)
    shape, affine = check_nifti(*files)
    return (shape[0], shape[1], shape[2]), affine


def _is_dicom(path: Path) -> bool:
    return path.is_dir() or (find_nifti(path) is None and is_dicom(path))


def _require_content(path: Path) -> None:
    if not path.exists():
        raise Unreadable("no such file")
    if not path.is_dir() and path.stat().st_size == 0:
        raise Unreadable("the file is empty (0 bytes)")
