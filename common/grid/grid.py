"""The grid that all volumes of a data set are brought to, chosen from their headers or carried by a trained model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from ..errors import InputError
from ..files.tensor_files import load_tensors
from ..volumes.read import read_geometry


@dataclass(frozen=True)
class Grid:
    """What a network sees of a volume, and what its classes mean; written into model.pt as buffers.

    Args:
        spatial_size: voxels along the RAS axes.
        pixdim: spacing of the voxels, mm.
        label_values: value of each class in a label map, background first.

    Raises:
        ValueError: a size or spacing not above 0, or fewer than two classes.
    """

    spatial_size: tuple[int, ...]
    pixdim: tuple[float, ...]
    label_values: tuple[int, ...]

    def __post_init__(self) -> None:
        if any(n < 1 for n in self.spatial_size):
            raise ValueError(f"spatial_size is {list(self.spatial_size)}; wanted voxels above 0")
        if any(p <= 0 for p in self.pixdim):
            raise ValueError(f"pixdim is {list(self.pixdim)}; wanted millimetres above 0")
        if len(self.label_values) < 2:
            raise ValueError(f"label_values is {list(self.label_values)}; wanted the background and at least one more")

    def as_dict(self) -> dict[str, list]:
        """Return {"spatial_size", "pixdim", "label_values"} as lists, for JSON."""
        return {
            "spatial_size": list(self.spatial_size),
            "pixdim": list(self.pixdim),
            "label_values": list(self.label_values),
        }


def make_grid(spatial_size: Iterable[float], pixdim: Iterable[float], label_values: Iterable[float]) -> Grid:
    """Return a grid of any numbers: whole sizes and values, spacings to a ten-thousandth of a mm."""
    sizes, values = tuple(int(n) for n in spatial_size), tuple(int(v) for v in label_values)
    return Grid(sizes, tuple(round(float(p), 4) for p in pixdim), values)


def read_grid(path: str | None, default: Mapping[str, Sequence[float]]) -> Grid:
    """Return the grid that a trained model.pt carries, or the default, by its fields, where there is no such file."""
    found: Mapping[str, Any] = default
    if path and Path(path).expanduser().exists():
        tensors = load_tensors(path)
        found = {name: tensors[name].tolist() for name in ("spatial_size", "pixdim", "label_values")}
    return make_grid(**found)


def ras_geometry(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (shape in voxels, spacing in mm) of a volume along the right-left, posterior-anterior and axial axes."""
    shape, affine = read_geometry(path)
    order = np.argsort(nibabel.io_orientation(affine)[:, 0])
    return np.asarray(shape)[order], np.sqrt((affine[:3, :3] ** 2).sum(0))[order]


def plan_grid(
    cases: Sequence[Mapping[str, Any]],
    label_values: Iterable[int],
    spatial_size: Sequence[int] | None = None,
    pixdim: Sequence[float] | None = None,
    max_voxels: int = 98304,
    divisor: int = 8,
    model: Grid | None = None,
) -> Grid:
    """Choose the grid that every volume is brought to, from image headers alone.

    It spans the largest extent of the given cases, with the finest spacing (never finer than the median scan's) at
    which it has about `max_voxels` voxels. What is given is kept.

    Args:
        cases: items with the key `image` (path).
        label_values: of the classes, background first.
        spatial_size: voxels along the RAS axes, each a multiple of `divisor`; None to choose.
        pixdim: mm; None to choose.
        model: grid of a model whose training goes on: size and spacing are kept. None: a new model.

    Raises:
        InputError: a size or spacing that is given and not the model's.
    """
    if model is not None:
        wanted = (("spatial_size", spatial_size, model.spatial_size), ("pixdim", pixdim, model.pixdim))
        problems = [
            f"{name} is {list(value)}; wanted {list(own)} as in models/model.pt, or null: its training goes on"
            for name, value, own in wanted
            if value is not None and not np.allclose(value, own, rtol=1e-3)
        ]
        if problems:
            raise InputError(problems)
        return make_grid(model.spatial_size, model.pixdim, label_values)
    geometry = [ras_geometry(case["image"]) for case in cases]
    extent = np.max([shape * spacing for shape, spacing in geometry], axis=0)
    native = np.median([spacing for _, spacing in geometry], axis=0)
    given = pixdim
    if given is None:
        isotropic = (np.prod(extent) / max_voxels) ** (1 / 3)
        spacing = np.maximum(native, isotropic) if spatial_size is None else np.maximum(native, extent / spatial_size)
    else:
        spacing = np.asarray(given, dtype=float)
    if spatial_size is None:
        blocks = extent / spacing / divisor
        # a wanted spacing is kept, and the grid spans all; else the spacing gives way a little
        blocks = np.round(blocks) if given is None else np.ceil(blocks - 1e-6)
        spatial_size = np.maximum(divisor * blocks, 2 * divisor).astype(int)
        spacing = np.maximum(spacing, extent / spatial_size) if given is None else spacing
    return make_grid(spatial_size, spacing, label_values)
