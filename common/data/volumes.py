"""Reading volumes of any format as they are stored, or one clear reason why that can't be."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

NIFTI_SUFFIXES = (".nii", ".nii.gz")


SHOWN_VALUES = 5
SMALLEST_SPACING = 1e-6  # mm


class Unreadable(Exception):
    """A file that is no usable volume; the text goes after its name in the line of the problem."""


@dataclass(frozen=True)
class Volume:
    """One volume as stored: voxels [H, W, D] in the file's own axis order, and its affine to RAS mm."""

    array: np.ndarray
    affine: np.ndarray


def read_volume(path: str | Path) -> Volume:
    """Read NIfTI through nibabel (every byte, the gzip checksum included), a folder as one DICOM series, and all else
    through SimpleITK.

    Raises:
        Unreadable: missing, empty, truncated, of another format than its name says; not 3D; RGB or complex; affine or
            spacing that no grid has.
    """
    path = Path(path)
    if not path.exists():
        raise Unreadable("no such file")
    if path.is_dir():
        volume = _read_dicom(path)
    elif path.stat().st_size == 0:
        raise Unreadable("the file is empty (0 bytes)")
    elif path.name.lower().endswith(NIFTI_SUFFIXES):
        volume = _read_nifti(path)
    else:
        volume = _read_itk(path)
    spacing = np.linalg.norm(volume.affine[:3, :3], axis=0)
    if not np.isfinite(volume.affine).all():
        raise Unreadable("the affine has NaN or Inf; wanted finite numbers")
    if spacing.min() < SMALLEST_SPACING:
        raise Unreadable(f"spacing {numbers_text(spacing)} mm; wanted more than 0 on every axis")
    # the determinant of the direction alone, so that small voxels don't count as singular
    if abs(np.linalg.det(volume.affine[:3, :3] / spacing)) < 1e-3:
        raise Unreadable(f"the affine is singular: {volume.affine[:3, :3].round(4).tolist()}; wanted an invertible one")
    return volume


def read_geometry(path: str | Path) -> tuple[tuple[int, int, int], np.ndarray]:
    """Return (shape in voxels, affine to RAS mm) of a volume as stored, from its header where the format has one.

    Raises:
        Unreadable: as `read_volume`, of which this looks at the header only; a DICOM folder is read as a whole.
    """
    path = Path(path)
    if path.is_dir() or not path.name.lower().endswith(NIFTI_SUFFIXES):
        volume = read_volume(path)
        return volume.array.shape, volume.affine
    import nibabel

    try:
        image = nibabel.load(path)
    except Exception as error:  # nibabel raises many kinds for a broken file
        raise Unreadable(f"not a readable NIfTI file ({_first_line(error)})") from error
    _require_3d(image.shape, image.get_data_dtype())
    return image.shape, np.asarray(image.affine, dtype=float)


def _require_3d(shape: Sequence[int], dtype: np.dtype) -> None:
    """Refuse by the header alone, before the voxels are read."""
    if dtype.fields is not None:
        raise Unreadable(f"voxels are {'/'.join(dtype.names)} colours, shape {tuple(shape)}; wanted one grey channel")
    if dtype.kind == "c":
        raise Unreadable(f"voxels are complex ({dtype}), shape {tuple(shape)}; wanted real numbers")
    if len(shape) != 3:
        raise Unreadable(f"shape {tuple(shape)}; wanted 3 dimensions")
    if min(shape) < 2:
        raise Unreadable(f"shape {tuple(shape)}; wanted 3 dimensions of 2 voxels or more")


def _read_nifti(path: Path) -> Volume:
    import nibabel
    from nibabel.imageglobals import LoggingOutputSuppressor

    content = path.read_bytes()
    if path.name.lower().endswith(".gz"):
        try:
            content = gzip.decompress(content)  # all of it: nibabel itself stops before the checksum
        except (OSError, EOFError, zlib.error) as error:
            raise Unreadable(f"not a sound gzip file ({error}); wanted a whole .nii.gz") from error
    classes = {348: nibabel.Nifti1Image, 540: nibabel.Nifti2Image}  # by the size of the header, in either byte order
    size = min(int.from_bytes(content[:4], order) for order in ("little", "big"))
    if size not in classes:
        raise Unreadable("no NIfTI header; wanted a NIfTI file, as its name says")
    image_class = classes[size]
    try:
        with LoggingOutputSuppressor():
            # check=False: nibabel would mend a zero spacing without a word
            raw = image_class.header_class.from_fileobj(BytesIO(content), check=False)
            shape, dtype = raw.get_data_shape(), raw.get_data_dtype()
            _require_3d(shape, dtype)
            pixdim = np.asarray(raw["pixdim"][1:4], dtype=float)
            if not np.isfinite(pixdim).all() or pixdim.min() < SMALLEST_SPACING:
                raise Unreadable(f"spacing {numbers_text(pixdim)} mm; wanted more than 0 on every axis")
            image = image_class.from_bytes(content)
            array = np.asanyarray(image.dataobj)
    except Unreadable:
        raise
    except Exception as error:  # nibabel raises many kinds for a broken file
        raise Unreadable(f"not a readable NIfTI file ({_first_line(error)})") from error
    return Volume(array, np.asarray(image.affine, dtype=float))


def _read_itk(path: Path) -> Volume:
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        shape, components = reader.GetSize(), reader.GetNumberOfComponents()
        if components > 1:
            raise Unreadable(f"{components} channels, shape {tuple(shape)}; wanted one grey channel")
        is_complex = "complex" in SimpleITK.GetPixelIDValueAsString(reader.GetPixelID())
        _require_3d(shape, np.dtype(np.complex64 if is_complex else np.float32))
        image = reader.Execute()
    except RuntimeError as error:
        raise Unreadable(f"not a readable image ({_last_line(error)})") from error
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])  # ITK counts in LPS
    return Volume(SimpleITK.GetArrayViewFromImage(image).transpose(2, 1, 0).copy(), to_ras @ affine)


def _read_dicom(path: Path) -> Volume:
    from monai.data import ITKReader

    try:
        reader = ITKReader()
        array, meta = reader.get_data(reader.read(str(path)))
    except Exception as error:
        raise Unreadable(f"not a readable DICOM series ({_last_line(error)})") from error
    _require_3d(array.shape, array.dtype)
    return Volume(array, np.asarray(meta["affine"], dtype=float))


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _last_line(error: BaseException) -> str:
    return next(iter(reversed(str(error).strip().splitlines())), type(error).__name__)


def numbers_text(values: Iterable[float]) -> str:
    values = list(values)
    more = f" and {len(values) - SHOWN_VALUES} more" if len(values) > SHOWN_VALUES else ""
    return ", ".join(f"{value:g}" for value in values[:SHOWN_VALUES]) + more
