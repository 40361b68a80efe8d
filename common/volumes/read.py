"""Reading volumes of any format as they are stored, or one clear reason why that can't be."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .dicom_series import read_dicom
from .itk_file import read_itk, read_itk_geometry
from .nifti import find_nifti, read_nifti, read_nifti_geometry
from .volume import Unreadable, Volume, require_geometry


def read_volume(path: str | Path) -> Volume:
    """Read NIfTI through nibabel (every byte, the gzip checksum included), a folder as one DICOM series, and all else
    through SimpleITK.

    Units of a NIfTI header are turned to mm. What a header declares is held against the file's size, and against what
    a scan can be, before memory is taken for it.

    Raises:
        Unreadable: missing, empty, truncated, of another format than its name says; not 3D; RGB or complex; affine,
            spacing or extent that no scan has; too large; voxels in a file outside the header's folder.
    """
    path = Path(path)
    _require_content(path)
    if path.is_dir():
        volume = read_dicom(path)
        require_geometry(volume.array.shape, volume.affine)
        return volume
    files = find_nifti(path)
    return read_itk(path) if files is None else read_nifti(*files)


def read_geometry(path: str | Path) -> tuple[tuple[int, int, int], np.ndarray]:
    """Return (shape in voxels, affine to RAS mm) of a volume as stored, from its header where the format has one.

    Raises:
        Unreadable: as `read_volume`, of which this looks at the header only; a DICOM folder is read as a whole.
    """
    path = Path(path)
    _require_content(path)
    if path.is_dir():
        volume = read_volume(path)
        return volume.array.shape, volume.affine
    files = find_nifti(path)
    return read_itk_geometry(path) if files is None else read_nifti_geometry(*files)


def _require_content(path: Path) -> None:
    if not path.exists():
        raise Unreadable("no such file")
    if not path.is_dir() and path.stat().st_size == 0:
        raise Unreadable("the file is empty (0 bytes)")
