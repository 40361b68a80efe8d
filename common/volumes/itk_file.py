"""MetaImage, NRRD and whatever else SimpleITK reads."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from .bounded import MOST_DEFLATED
from .itk_header import META_IMAGE, NRRD, inside, require_held
from .volume import Unreadable, Volume, last_line, require_3d, require_geometry

# by the name alone: ITK would look into the file, and read what was not looked at here
READERS = dict.fromkeys(NRRD, "NrrdImageIO") | dict.fromkeys(META_IMAGE, "MetaImageIO")
PAIR = {".hdr": ".img", ".img": ".hdr", ".img.gz": ".hdr.gz", ".hdr.gz": ".img.gz"}  # Analyze, and NIfTI in two files


def read_itk(path: Path) -> Volume:
    """Read one grey volume.

    Raises:
        Unreadable: what is wrong with the file; by its header alone, before memory is taken, where that tells.
    """
    reader, _, affine = _read_header(path)
    import SimpleITK

    try:
        image = reader.Execute()
    except (RuntimeError, MemoryError) as error:
        raise Unreadable(f"not a readable image ({last_line(error)})") from error
    return Volume(SimpleITK.GetArrayViewFromImage(image).transpose(2, 1, 0).copy(order="F"), affine)


def read_itk_geometry(path: Path) -> tuple[tuple[int, int, int], np.ndarray]:
    """Return (shape in voxels, affine to RAS mm) from the header alone; see `read_itk`."""
    return _read_header(path)[1:]


def _read_header(path: Path) -> tuple[Any, tuple[int, int, int], np.ndarray]:
    import SimpleITK

    name = path.name.lower()
    kind = next((kind for suffix, kind in READERS.items() if name.endswith(suffix)), None)
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    if kind is not None:
        reader.SetImageIO(kind)
        require_held(path)
    try:
        reader.ReadImageInformation()
        shape, components = reader.GetSize(), reader.GetNumberOfComponents()
        if components > 1:
            raise Unreadable(f"{components} channels, shape {tuple(shape)}; wanted one grey channel")
        pixel = SimpleITK.GetPixelIDValueAsString(reader.GetPixelID())
        require_3d(shape, np.dtype(np.complex64 if "complex" in pixel else np.float32))
    except RuntimeError as error:
        raise Unreadable(f"not a readable image ({last_line(error)})") from error
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(reader.GetDirection(), (3, 3)) * np.asarray(reader.GetSpacing())
    affine[:3, 3] = reader.GetOrigin()
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # ITK counts in LPS
    require_geometry(shape, affine)
    if kind is None:
        _require_possible(path, shape)
    return reader, shape, affine


def _require_possible(path: Path, shape: tuple[int, ...]) -> None:
    """Refuse a file of a format not looked into here that can't hold its voxels, however well they are packed."""
    suffix = next(
        (suffix for suffix in sorted(PAIR, key=len, reverse=True) if path.name.lower().endswith(suffix)), None
    )
    files = [path]
    if suffix is not None:
        other = path.name[: -len(suffix)] + PAIR[suffix]
        if (path.parent / other).exists():
            files.append(inside(path, other))
    held = sum(file.stat().st_size for file in files)
    if held * MOST_DEFLATED < math.prod(shape):
        raise Unreadable(f"not a readable image (holds {held} bytes; its header declares {math.prod(shape)} voxels)")
