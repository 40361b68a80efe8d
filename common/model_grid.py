"""The grid that a trained model carries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from .checkpoint import load_tensors


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
