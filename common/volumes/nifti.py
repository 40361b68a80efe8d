"""NIfTI through nibabel, every byte of it and no byte more than its header declares."""

from __future__ import annotations

import gzip
from os import SEEK_END
from pathlib import Path
from typing import Any

import numpy as np

from .bounded import BROKEN, MOST_DEFLATED, SPARE, read_exactly, skip
from .itk_header import inside
from .nifti_forms import read_forms, to_mm, unit_mm
from .volume import SMALLEST_SPACING, Unreadable, Volume, first_line, numbers_text, require_3d, require_geometry

SINGLE, PAIR = (".nii", ".nii.gz"), (".hdr", ".hdr.gz", ".img", ".img.gz")
SIZES = (348, 540)  # of the headers of NIfTI-1 and 2
LARGEST_OFFSET = 1 << 27  # bytes before the voxels, which hold notes of other software


def find_nifti(path: Path) -> tuple[Path, Path] | None:
    """Return the files of header and voxels, one and the same but for a pair .hdr and .img; None: no NIfTI by its name.

    A pair of Analyze, whose header is the same but for four bytes, is none.

    Raises:
        Unreadable: the voxels of a pair lie elsewhere, or nowhere.
    """
    name = path.name.lower()
    if name.endswith(SINGLE):
        return path, path
    suffix = next((suffix for suffix in PAIR if name.endswith(suffix)), None)
    if suffix is None:
        return None
    stem = path.name[: -len(suffix)]
    header = next((path.parent / (stem + end) for end in PAIR[:2] if (path.parent / (stem + end)).is_file()), None)
    if header is None:
        return None
    try:
        with _open(header) as stream:
            if stream.read(max(SIZES))[344:347] != b"ni1":
                return None
    except BROKEN as error:
        raise Unreadable(f"not a sound gzip file ({error}); wanted a whole {header.name}") from error
    ends = [end for end in PAIR[2:] if (path.parent / (stem + end)).exists()]
    return header, inside(header, stem + (ends or PAIR[2:])[0])


def read_nifti(path: Path, data: Path | None = None, series: bool = False) -> Volume:
    """Read a header and its voxels, the gzip checksum included.

    Args:
        data: file of the voxels; None: the same.
        series: a fourth dimension is allowed, in which a file holds several volumes.

    Raises:
        Unreadable: what is wrong with the file; by its header alone, before memory is taken, where that tells.
    """
    data = path if data is None else data
    raw, header, affine = _read_header(path, data, series)
    offset, count = header.get_data_offset(), _voxel_bytes(header)
    with _open(data) as stream:
        try:
            skip(stream, offset)
            content = read_exactly(stream, count)
            if len(content) == count and _is_packed(data) and skip(stream, SPARE + 1) > SPARE:  # its checksum is last
                raise Unreadable(f"holds more than the {offset + count} bytes that its header declares")
        except BROKEN as error:
            raise _unsound(data, error) from error
    if len(content) < count:
        raise Unreadable(_too_short(offset + len(content), offset + count))
    return Volume(_scaled(content, header), affine, read_forms(raw))


def read_nifti_geometry(path: Path, data: Path | None = None) -> tuple[tuple[int, ...], np.ndarray]:
    """Return (shape in voxels, affine to RAS mm) from the header alone, of four dimensions where a file has them; see
    `read_nifti`."""
    _, header, affine = _read_header(path, path if data is None else data, series=True)
    return header.get_data_shape(), affine


def check_nifti(path: Path, data: Path | None = None, series: bool = False) -> tuple[tuple[int, ...], np.ndarray]:
    """Return what `read_nifti_geometry` does of a file that holds the voxels it declares, as far as its end tells.

    A gzip file ends with how many bytes it holds. Where that isn't what the header declares all is read, to say why.
    """
    data = path if data is None else data
    _, header, affine = _read_header(path, data, series)
    declared = header.get_data_offset() + _voxel_bytes(header)
    if _is_packed(data) and not 0 <= (_last_length(data) - declared) % (1 << 32) <= SPARE:
        read_nifti(path, data, series)
    return header.get_data_shape(), affine


def _last_length(path: Path) -> int:
    """Return how many bytes the last part of a gzip file says it holds, modulo 2^32."""
    with open(path, "rb") as stream:
        stream.seek(-4, SEEK_END)
        return int.from_bytes(stream.read(4), "little")


def _is_packed(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _open(path: Path) -> Any:
    return gzip.open(path) if _is_packed(path) else open(path, "rb")


def _unsound(path: Path, error: Exception) -> Exception:
    return Unreadable(f"not a sound gzip file ({error}); wanted a whole .nii.gz") if _is_packed(path) else error


def _voxel_bytes(header: Any) -> int:
    size = header.get_data_dtype().itemsize
    for n in header.get_data_shape():
        size *= int(n)
    return size


def _too_short(held: int, declared: int) -> str:
    return f"not a readable NIfTI file (holds {held} bytes, its header declares {declared}); wanted a whole one"


def _read_header(path: Path, data: Path, series: bool) -> tuple[Any, Any, np.ndarray]:
    """Return the header as stored, the same as nibabel mends it, and the affine in mm."""
    import nibabel
    from nibabel.imageglobals import LoggingOutputSuppressor

    try:
        with _open(path) as stream:
            block = stream.read(max(SIZES))
    except BROKEN as error:
        raise _unsound(path, error) from error
    size = min(int.from_bytes(block[:4], order) for order in ("little", "big"))  # in either byte order
    if size not in SIZES:
        raise Unreadable("no NIfTI header; wanted a NIfTI file, as its name says")
    block = block[:size]
    if len(block) < size:
        raise Unreadable(_too_short(len(block), size))
    kind = nibabel.Nifti1Header if size == SIZES[0] else nibabel.Nifti2Header
    try:
        with LoggingOutputSuppressor():
            # check=False: nibabel would mend a zero spacing without a word
            raw = kind(block, check=False)
            shape = raw.get_data_shape()
            shape = shape[:3] if series and len(shape) == 4 and shape[3] > 0 else shape
            require_3d(shape, raw.get_data_dtype())
            pixdim = np.asarray(raw["pixdim"][1:4], dtype=float) * unit_mm(raw)
            if not np.isfinite(pixdim).all() or pixdim.min() < SMALLEST_SPACING:
                raise Unreadable(f"spacing {numbers_text(pixdim)} mm; wanted more than 0 on every axis")
            header = kind(block)
            affine = to_mm(header.get_best_affine(), header)
            offset = header.get_data_offset()
    except Unreadable:
        raise
    except Exception as error:  # nibabel raises many kinds for a broken header
        raise Unreadable(f"not a readable NIfTI file ({first_line(error)})") from error
    require_geometry(shape, affine)
    least = size if path == data else 0
    if not least <= offset <= LARGEST_OFFSET:
        raise Unreadable(f"its voxels begin at byte {offset}; wanted {least} to {LARGEST_OFFSET}")
    declared, held = offset + _voxel_bytes(header), data.stat().st_size
    if held * (MOST_DEFLATED if _is_packed(data) else 1) < declared:
        raise Unreadable(_too_short(held, declared))
    return raw, header, affine


def _scaled(content: np.ndarray, header: Any) -> np.ndarray:
    """Return voxels as nibabel gives them: `scl_slope` and `scl_inter` applied where they change anything.

    Of integers up to 16 bits float32 comes, plane by plane, which holds what a scanner has measured; of others float64.
    """
    from nibabel.volumeutils import apply_read_scaling

    voxels = content.view(header.get_data_dtype()).reshape(header.get_data_shape(), order="F")
    try:
        slope, inter = header.get_slope_inter()
    except Exception as error:
        raise Unreadable(f"not a readable NIfTI file ({first_line(error)})") from error
    slope, inter = (np.float64(default if value is None else value) for value, default in ((slope, 1), (inter, 0)))
    if (slope, inter) == (1, 0) or voxels.dtype.kind not in "iu" or voxels.dtype.itemsize > 2:
        return apply_read_scaling(voxels, slope, inter)
    result = np.empty(voxels.shape, np.float32, order="F")
    for plane in range(voxels.shape[-1]):  # a whole body twice in float64 would be 4 GB
        result[..., plane] = apply_read_scaling(voxels[..., plane], slope, inter)
    return result
