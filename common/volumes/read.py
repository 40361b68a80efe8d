"""Reading volumes of any format as they are stored, or one clear reason why that can't be."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .dicom.headers import is_dicom
from .dicom.series import find_series, read_dicom
from .itk_file import read_itk, read_itk_geometry
from .nifti import check_nifti, find_nifti, read_nifti, read_nifti_geometry
from .volume import Unreadable, Volume


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


def read_geometry(path: str | Path) -> tuple[tuple[int, int, int], np.ndarray]:
    """Return (shape in voxels, affine to RAS mm) of a volume as stored, from its header where the format has one.

    Raises:
        Unreadable: as `read_volume`, of which this looks at the header only.
    """
    path = Path(path)
    _require_content(path)
    if _is_dicom(path):
        series = find_series(path)
        return series.size, series.stack.affine
    files = find_nifti(path)
    return read_itk_geometry(path) if files is None else read_nifti_geometry(*files)


def check_volume(path: str | Path) -> tuple[tuple[int, int, int], np.ndarray]:
    """Return what `read_geometry` does, of a file that holds all that its header declares as far as its size tells.

    Raises:
        Unreadable: as `read_volume`, but for voxels that are broken and yet as many as they should be.
    """
    path = Path(path)
    files = None if path.is_dir() or not path.exists() or path.stat().st_size == 0 else find_nifti(path)
    return read_geometry(path) if files is None else check_nifti(*files)


def _is_dicom(path: Path) -> bool:
    return path.is_dir() or (find_nifti(path) is None and is_dicom(path))


def _require_content(path: Path) -> None:
    if not path.exists():
        raise Unreadable("no such file")
    if not path.is_dir() and path.stat().st_size == 0:
        raise Unreadable("the file is empty (0 bytes)")
