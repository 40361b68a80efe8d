"""Segmentation metrics of a case, in mm on the native grid."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from monai.metrics import compute_dice
from monai.metrics.utils import get_edge_surface_distance

from ..errors import InputError
from ..volumes.label import find_fractions, round_labels

METRICS = ("dice", "hd95", "assd")
# A case whose Dice is under it is one to draw anew rather than to correct. Of a mask as large as the truth 30 % of the
# voxels are wrong there, and as many are missing: more to find and mend than most would. 0.7 is where Zijdenbos et al.
# (IEEE TMI 1994) let good agreement begin; it was not measured with annotators here, and small structures lie lower.
POOR = 0.7
EMPTY_RULE = (
    "label empty in truth and prediction: NaN, excluded from mean, sd, min and max, and counted; "
    "empty in one of the two: Dice 0, hd95 and assd = the diagonal of the volume in mm"
)


def is_penalty(scores: Mapping[str, float]) -> bool:
    """Say whether the distances of a label's scores stand for a mask that is empty in one of the two (`EMPTY_RULE`).

    Two single voxels apart look the same.
    """
    return scores["dice"] == 0 and scores["hd95"] == scores["assd"] > 0


def share_under(dice: Iterable[float], limit: float = POOR) -> float:
    """Return the share of Dice values that are under a limit, NaN left out; NaN where there is none."""
    known = [value for value in dice if not math.isnan(value)]
    return sum(value < limit for value in known) / len(known) if known else math.nan


def under_title(limit: float = POOR) -> str:
    """Return the heading of a column of such shares: "under .70"."""
    return f"under {limit:.2f}".replace(" 0.", " .")


def percent(share: float) -> str:
    """Return a share as "12 %", a dash for NaN; what is above 0 is never shown as "0 %"."""
    if 0 < share < 0.005:
        return "<1 %"
    return "–" if math.isnan(share) else f"{share:.0%}".replace("%", " %")


def case_metrics(
    pred: np.ndarray | torch.Tensor,
    label: np.ndarray | torch.Tensor,
    spacing: Sequence[float] | np.ndarray,
    label_values: Iterable[int],
) -> dict[int, dict[str, float]]:
    """Return Dice, 95th percentile Hausdorff and average symmetric surface distance (mm) of each foreground label.

    A label that is empty in both volumes gets NaN three times, to be excluded from means and counted. One that is
    empty in only one of them gets Dice 0 and, for both distances, the diagonal of the volume in mm, so that a miss
    never looks better than a bad hit. Everything else is what MONAI's `compute_dice`, `compute_hausdorff_distance` and
    `compute_average_surface_distance` give, found inside the bounding box of both masks.

    Args:
        pred, label: [H, W, D] label values, whole numbers of any dtype, on one grid.
        spacing: voxel size along each axis, mm.
        label_values: the foreground values to score; a 0 among them is left out.

    Raises:
        InputError: shapes that differ or aren't 3D, fractional values, a spacing that isn't three positive numbers.
    """
    pred, label = _whole_numbers(pred, "pred"), _whole_numbers(label, "label")
    spacing = [float(value) for value in spacing]
    problems = []
    if pred.shape != label.shape or pred.ndim != 3:
        problems.append(f"pred and label: found shapes {pred.shape} and {label.shape}, wanted one 3D shape")
    if len(spacing) != 3 or not all(math.isfinite(value) and value > 0 for value in spacing):
        problems.append(f"spacing: found {spacing}, wanted three positive numbers in mm")
    if problems:
        raise InputError(problems)
    diagonal = float(np.linalg.norm(np.multiply(label.shape, spacing)))
    return {
        int(value): _label_metrics(pred == value, label == value, spacing, diagonal)
        for value in label_values
        if value != 0
    }


def _whole_numbers(volume: np.ndarray | torch.Tensor, name: str) -> np.ndarray:
    array = volume.detach().cpu().numpy() if isinstance(volume, torch.Tensor) else np.asarray(volume)
    if np.issubdtype(array.dtype, np.floating):
        array = round_labels(array)
        if find_fractions(array):
            raise InputError(f"{name}: found fractional or non-finite label values, wanted whole numbers")
        array = array.astype(np.int64)
    return array


def _label_metrics(pred: np.ndarray, label: np.ndarray, spacing: list[float], diagonal: float) -> dict[str, float]:
    if not pred.any() and not label.any():
        return dict.fromkeys(METRICS, math.nan)
    if not pred.any() or not label.any():
        return {"dice": 0.0, "hd95": diagonal, "assd": diagonal}
    box = _bounding_box(pred | label)
    y_pred, y = (torch.from_numpy(np.ascontiguousarray(mask[box]))[None, None] for mask in (pred, label))  # [1,1,h,w,d]
    dice = compute_dice(y_pred, y, include_background=True)
    # both ways, once: MONAI's functions for either distance would each find them again, most of a score's time
    _, distances, _ = get_edge_surface_distance(y_pred[0, 0], y[0, 0], spacing=spacing, symmetric=True)
    hd95 = torch.stack([torch.quantile(way, 0.95) for way in distances]).max()
    return {"dice": dice.item(), "hd95": hd95.item(), "assd": torch.cat(distances).mean().item()}


def _bounding_box(mask: np.ndarray, margin: int = 1) -> tuple[slice, ...]:
    """Return the slices of the smallest box around `mask`; the margin keeps the surface free of the box's border."""
    box = []
    for axis in range(mask.ndim):
        inside = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        box.append(slice(max(int(inside[0]) - margin, 0), int(inside[-1]) + 1 + margin))
    return tuple(box)
