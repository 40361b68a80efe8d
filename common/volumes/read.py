"""Reading volumes of any format as they are stored, or one clear reason why that can't be."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .dicom_headers import is_dicom
from .dicom_series import find_series, read_dicom
from .itk_file import read_itk
from .nifti import read_nifti
from .volume import SMALLEST_SPACING, Unreadable, Volume, first_line, numbers_text, require_3d

NIFTI_SUFFIXES = (".nii", ".nii.gz")


def read_volume(path: str | Path) -> Volume:
    """Read NIfTI through nibabel (every byte, the gzip checksum included), a folder or a DICOM file as one DICOM
    series, and all else through SimpleITK.

    Raises:
        Unreadable: missing, empty, truncated, of another format than its name says; not 3D; RGB or complex; affine or
            spacing that no grid has; a DICOM series of which a slice is not where its grid has it.
    """
    path = Path(path)
    if not path.exists():
        raise Unreadable("no such file")
    if path.is_dir():
        volume = read_dicom(path)
    elif path.stat().st_size == 0:
        raise Unreadable("the file is empty (0 bytes)")
    elif path.name.lower().endswith(NIFTI_SUFFIXES):
        volume = read_nifti(path)
    elif is_dicom(path):
        volume = read_dicom(path)
    else:
        volume = read_itk(path)
    _require_grid(volume.affine)
    return volume


def read_geometry(path: str | Path) -> tuple[tuple[int, int, int], np.ndarray]:
    """Return (shape in voxels, affine to RAS mm) of a volume as stored, from its header where the format has one.

    Raises:
        Unreadable: as `read_volume`, of which this looks at the header only.
    """
    path = Path(path)
    if path.is_dir():
        series = find_series(path)
        _require_grid(series.stack.affine)
        return series.size, series.stack.affine
    if not path.name.lower().endswith(NIFTI_SUFFIXES):
        volume = read_volume(path)
        return volume.array.shape, volume.affine
    import nibabel

    try:
        image = nibabel.load(path)
    except Exception as error:  # nibabel raises many kinds for a broken file
        raise Unreadable(f"not a readable NIfTI file ({first_line(error)})") from error
    require_3d(image.shape, image.get_data_dtype())
    return image.shape, np.asarray(image.affine, dtype=float)


def _require_grid(affine: np.ndarray) -> None:
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all():
        raise Unreadable("the affine has NaN or Inf; wanted finite numbers")
    if spacing.min() < SMALLEST_SPACING:
        raise Unreadable(f"spacing {numbers_text(spacing)} mm; wanted more than 0 on every axis")
    # the determinant of the direction alone, so that small voxels don't count as singular
    if abs(np.linalg.det(affine[:3, :3] / spacing)) < 1e-3:
        raise Unreadable(f"the affine is singular: {affine[:3, :3].round(4).tolist()}; wanted an invertible one")
