"""The paper's per-slice metric, to be set beside its own figures and never beside a volume Dice."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_erosion, distance_transform_edt, generate_binary_structure

EPSILON = 1e-6
COLUMNS = ("slice dice", "slice jaccard", "slice assd px", "slice hd95 px")


def slice_parity(pred: np.ndarray, label: np.ndarray, axis: int) -> dict[str, float]:
    """Score one structure of one volume as the released code does: slice by slice, in pixels, the mean over slices.

    An empty prediction on an empty slice scores 1, a false pixel there 0, so that a model that never finds anything
    reaches the share of empty slices. Surface distances are of the slices alone in which both have the structure:
    misses are dropped. Ours counts the pixels of the stored slice; the released code's slices are trimmed and resized
    to 256 x 256.

    Args:
        pred, label: bool [H, W, D].
        axis: that the slices are counted along.

    Returns:
        the `COLUMNS`; NaN for the distances where no slice has both.
    """
    columns: dict[str, list[float]] = {name: [] for name in COLUMNS}
    for index in range(pred.shape[axis]):
        a, b = pred.take(index, axis), label.take(index, axis)
        both, total = int((a & b).sum()), int(a.sum()) + int(b.sum())
        columns["slice dice"].append((2 * both + EPSILON) / (total + EPSILON))
        columns["slice jaccard"].append((both + EPSILON) / (total - both + EPSILON))
        if a.any() and b.any():
            there, back = _distances(a, b), _distances(b, a)
            columns["slice assd px"].append((there.mean() + back.mean()) / 2)
            columns["slice hd95 px"].append(float(np.percentile(np.concatenate([there, back]), 95)))
    return {name: float(np.mean(found)) if found else float("nan") for name, found in columns.items()}


def _distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the distance of each border pixel of a mask to the border of another, pixels."""
    return distance_transform_edt(~_border(other))[_border(one)]


def _border(mask: np.ndarray) -> np.ndarray:
    return mask & ~binary_erosion(mask, generate_binary_structure(2, 1))
