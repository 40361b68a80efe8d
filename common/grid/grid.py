"""The grid that all volumes of a data set are brought to, chosen from their headers or carried by a trained model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel
import numpy as np
from monai.transforms import LoadImage

from ..errors import InputError
from ..files.tensor_files import load_tensors


def read_grid(path: str | None, default: Mapping[str, Sequence[float]]) -> dict[str, list]:
    """Return the grid and label values that a trained model.pt carries, or the default where there is no such file.

    Returns:
        {"spatial_size": [int] * 3, "pixdim": [mm] * 3, "label_values": [int] * K}
    """
    if not path or not Path(path).exists():
        return {name: list(value) for name, value in default.items()}
    tensors = load_tensors(path)
    return {
        "spatial_size": [int(n) for n in tensors["spatial_size"]],
        "pixdim": [round(float(p), 4) for p in tensors["pixdim"]],
        "label_values": [int(v) for v in tensors["label_values"]],
    }


def ras_geometry(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (shape in voxels, spacing in mm) of a volume along the right-left, posterior-anterior and axial axes."""
    if str(path).endswith((".nii", ".nii.gz")):
        header = nibabel.load(path)
        shape, affine = header.shape, header.affine
    else:
        image = LoadImage(image_only=True, ensure_channel_first=False)(path)
        shape, affine = image.shape, np.asarray(image.affine)
    order = np.argsort(nibabel.io_orientation(affine)[:, 0])
    return np.asarray(shape)[order], np.sqrt((affine[:3, :3] ** 2).sum(0))[order]


def plan_grid(
    cases: Sequence[Mapping],
    spatial_size: Sequence[int] | None = None,
    pixdim: Sequence[float] | None = None,
    max_voxels: int = 98304,
    divisor: int = 8,
    model: Mapping[str, Sequence] | None = None,
) -> dict[str, list]:
    """Choose the grid that every volume is brought to, from image headers alone.

    It spans the largest extent of the given cases, with the finest spacing (never finer than the median scan's) at
    which it has about `max_voxels` voxels. What is given is kept.

    Args:
        cases: items with the key `image` (path).
        spatial_size: voxels along the RAS axes, each a multiple of `divisor`; None to choose.
        pixdim: mm; None to choose.
        model: grid of a model whose training goes on (`read_grid`): it is kept. None: a new model.

    Returns:
        {"spatial_size": [H, W, D], "pixdim": [mm, mm, mm]}

    Raises:
        InputError: a size or spacing that is given and not the model's.
    """
    if model is not None:
        wanted = {"spatial_size": spatial_size, "pixdim": pixdim}
        problems = [
            f"{name} is {list(value)}; wanted {list(model[name])} as in models/model.pt, or null: its training goes on"
            for name, value in wanted.items()
            if value is not None and not np.allclose(value, model[name], rtol=1e-3)
        ]
        if problems:
            raise InputError(problems)
        return {name: list(model[name]) for name in wanted}
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
    return {"spatial_size": [int(n) for n in spatial_size], "pixdim": [round(float(p), 4) for p in spacing]}
