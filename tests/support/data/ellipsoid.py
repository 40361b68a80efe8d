"""One ellipsoid in space as a scan: on any grid, along any axes, in any file format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK

CENTRE, RADII = np.array([6.0, -4.0, 3.0]), np.array([22.0, 16.0, 28.0])  # mm
SHEAR = np.array([[1.0, 0, 0.25], [0, 1, 0], [0, 0, 1]])


def oblique(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def axes(codes: str, spacing: tuple[float, ...] = (2.5, 3.0, 3.5)) -> np.ndarray:
    """Return the linear part of an affine whose voxel axes point along `codes`."""
    linear = np.zeros((3, 3))
    for voxel, code in enumerate(codes):
        line = next(pair for pair in ("LR", "PA", "IS") if code in pair)
        linear[("LR", "PA", "IS").index(line), voxel] = spacing[voxel] * (1 if line[1] == code else -1)
    return linear


GEOMETRIES = {
    **{codes: (axes(codes), (33, 30, 27)) for codes in ("RAS", "LPS", "LAS", "RPI", "PSR", "SAL", "ILP", "ARI")},
    "oblique": (oblique(20) @ axes("LPS"), (33, 31, 29)),
    "thick slices": (axes("RAS", (0.5, 0.5, 5.0)), (161, 155, 17)),
    "smaller than the grid": (axes("LPI"), (21, 15, 19)),
    "larger than the grid": (axes("RAS"), (61, 45, 39)),
    "gantry tilt": (SHEAR @ axes("LPS"), (33, 31, 29)),
}


def affine_of(linear: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = linear
    affine[:3, 3] = -linear @ ((np.array(size) - 1) / 2)  # the middle voxel is at 0 mm
    return affine


def truth(affine: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Return the mask of one ellipsoid in space, on any grid."""
    voxels = np.stack(np.meshgrid(*[np.arange(n) for n in size], indexing="ij"), axis=-1)
    return (((voxels @ affine[:3, :3].T + affine[:3, 3] - CENTRE) / RADII) ** 2).sum(-1) < 1


def scan(linear: np.ndarray, size: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    affine = affine_of(linear, size)
    return (100 + 400 * truth(affine, size)).astype(np.int16), affine


def write_itk(path: Path, voxels: np.ndarray, affine: np.ndarray) -> None:
    to_lps = np.diag([-1.0, -1.0, 1.0])
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(voxels.transpose(2, 1, 0)))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((to_lps @ affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin((to_lps @ affine[:3, 3]).tolist())
    if path.suffix:
        SimpleITK.WriteImage(image, str(path))
        return
    path.mkdir()
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    direction = np.reshape(image.GetDirection(), (3, 3))
    for index in range(image.GetDepth()):
        slice_ = image[:, :, index]
        position = image.TransformIndexToPhysicalPoint((0, 0, index))
        tags = {"0008|0060": "CT", "0008|0021": "20260101", "0020|000e": "1.2.3", "0008|0018": f"1.2.3.{index}"}
        tags |= {"0020|0013": str(index), "0020|0032": "\\".join(f"{p:.6f}" for p in position)}
        tags |= {"0020|0037": "\\".join(f"{v:.8f}" for v in direction[:, :2].T.ravel())}
        for tag, value in tags.items():
            slice_.SetMetaData(tag, value)
        writer.SetFileName(str(path / f"{index:03d}"))
        writer.SetImageIO("GDCMImageIO")
        writer.Execute(slice_)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())
