"""One volume as it is stored, and the words for one that is no usable volume."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from .nifti_forms import NO_FORMS

SHOWN_VALUES = 5
SPACING_TOLERANCE = 1e-3  # relative
DIRECTION_TOLERANCE = 1e-3  # largest difference of a direction cosine
ORIGIN_TOLERANCE = 1e-2  # mm
SMALLEST_SPACING = 1e-6  # mm
SMALLEST_EXTENT, LARGEST_EXTENT = 1.0, 5000.0  # mm; beyond, a header has its units wrong
# A CT of 512 x 512 x 2000 voxels has two thirds of it. All volumes become float32, so that voxels count, not bytes
LARGEST_VOXELS = 800_000_000

Geometry = tuple[tuple[int, ...], np.ndarray]  # shape in voxels, affine to RAS mm


class Unreadable(Exception):
    """A file that is no usable volume; the text goes after its name in the line of the problem."""


@dataclass(frozen=True)
class Volume:
    """One volume as stored: voxels [H, W, D] in the file's own axis order, and its affine to RAS mm.

    `forms` is what a NIfTI header says of its place (`nifti_forms.read_forms`), NaN for other formats.
    """

    array: np.ndarray
    affine: np.ndarray
    forms: np.ndarray = field(default_factory=NO_FORMS.copy)

    @property
    def geometry(self) -> Geometry:
        """Shape in voxels, and affine to RAS mm."""
        return self.array.shape, self.affine


def require_3d(shape: Sequence[int], dtype: np.dtype) -> None:
    """Refuse by the header alone, before the voxels are read."""
    if dtype.fields is not None:
        raise Unreadable(f"voxels are {'/'.join(dtype.names)} colours, shape {tuple(shape)}; wanted one grey channel")
    if dtype.kind == "c":
        raise Unreadable(f"voxels are complex ({dtype}), shape {tuple(shape)}; wanted real numbers")
    if len(shape) != 3:
        raise Unreadable(f"shape {tuple(shape)}; wanted 3 dimensions")
    if min(shape) < 2:
        raise Unreadable(f"shape {tuple(shape)}; wanted 3 dimensions of 2 voxels or more")
    voxels = math.prod(int(n) for n in shape)
    if voxels > LARGEST_VOXELS:
        raise Unreadable(f"shape {tuple(shape)}, {too_many(voxels)}")


def too_many(voxels: float) -> str:
    """Return the words for a number of voxels above the limit."""
    return f"{voxels / 1e6:.0f} million voxels; wanted {LARGEST_VOXELS // 10**6} at most"


def find_no_contrast(array: np.ndarray) -> str | None:
    """Return in words why voxels are no image, by NaN or Inf or because all are the same; None where they are one."""
    low, high = array.min(), array.max()  # NaN where there is one
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = array.size - int(np.isfinite(array).sum())
        return f"{bad} of {array.size} voxels are NaN or Inf; wanted finite numbers"
    return f"every voxel is {low:g}; wanted an image with contrast" if low == high else None


def require_geometry(shape: Sequence[int], affine: np.ndarray) -> None:
    """Refuse an affine (to RAS mm) that no grid has, or by which the volume is no part of a body."""
    if not np.isfinite(affine).all():
        raise Unreadable("the affine has NaN or Inf; wanted finite numbers")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if spacing.min() < SMALLEST_SPACING:
        raise Unreadable(f"spacing {numbers_text(spacing)} mm; wanted more than 0 on every axis")
    # the determinant of the direction alone, so that small voxels don't count as singular
    if abs(np.linalg.det(affine[:3, :3] / spacing)) < 1e-3:
        raise Unreadable(f"the affine is singular: {affine[:3, :3].round(4).tolist()}; wanted an invertible one")
    extent = spacing * np.asarray(shape, dtype=float)
    if extent.max() > LARGEST_EXTENT or extent.max() < SMALLEST_EXTENT:
        raise Unreadable(
            f"spans {' x '.join(f'{mm:g}' for mm in extent)} mm; wanted {SMALLEST_EXTENT:g} to {LARGEST_EXTENT:g} mm: "
            "look at spacing and units in its header"
        )


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its kind."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def last_line(error: BaseException) -> str:
    """Return the last line of what an error says, or its kind: readers in C++ tell of their own places first."""
    return next(iter(reversed(str(error).strip().splitlines())), type(error).__name__)


def numbers_text(values: Iterable[float]) -> str:
    """Return some numbers as a text, the first few of them and how many more there are."""
    values = list(values)
    more = f" and {len(values) - SHOWN_VALUES} more" if len(values) > SHOWN_VALUES else ""
    return ", ".join(f"{value:g}" for value in values[:SHOWN_VALUES]) + more


def compare_grids(label: Geometry, image: Geometry, image_name: str) -> list[str]:
    """Return in what the (shape, affine) of a label differs from that of its image, a line each."""
    problems = []
    (shape, affine), (image_shape, image_affine) = label, image
    if tuple(shape) != tuple(image_shape):
        problems.append(f"shape {tuple(shape)}; wanted {tuple(image_shape)} as in {image_name}")
    found, wanted = (np.linalg.norm(matrix[:3, :3], axis=0) for matrix in (affine, image_affine))
    if (abs(found - wanted) > SPACING_TOLERANCE * wanted).any():
        problems.append(f"spacing {numbers_text(found)} mm; wanted {numbers_text(wanted)} mm as in {image_name}")
    found, wanted = affine[:3, :3] / found, image_affine[:3, :3] / wanted
    if abs(found - wanted).max() > DIRECTION_TOLERANCE:
        rows = [direction.round(4).tolist() for direction in (found, wanted)]
        problems.append(f"direction {rows[0]}; wanted {rows[1]} as in {image_name}")
    found, wanted = affine[:3, 3], image_affine[:3, 3]
    if abs(found - wanted).max() > ORIGIN_TOLERANCE:
        problems.append(f"origin {numbers_text(found)} mm; wanted {numbers_text(wanted)} mm as in {image_name}")
    return problems
