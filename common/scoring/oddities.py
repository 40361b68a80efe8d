"""What is odd about one scan's prediction beside its truth, in a line."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from monai.data.utils import affine_to_spacing
from scipy import ndimage
from torch import Tensor

from ..slices.counted import in_ranges, thick_axis
from ..tensors import plain
from .metrics import POOR, percent

VOLUME_OFF = 0.15  # of the true volume
SLICES_OFF, SHARE_OF_SLICES = 2, 0.1  # slices, and share of those that truly have the structure
APART = 0.05  # of the prediction, in pieces that touch no truth
TOLD = 2  # structures in a line
RULE = (
    f"A line tells of the {TOLD} structures of lowest Dice that have something to tell: not found; found where there "
    f"is none, or elsewhere; a volume {percent(VOLUME_OFF)} or more off; {SLICES_OFF} slices or more, and a "
    f"tenth of its slices, without it or too many; {percent(APART)} or more of it in pieces that touch no true "
    "voxel. Slices are counted from 1 along the file's axis of the thickest slices."
)


@dataclass(frozen=True)
class Difference:
    """How a label's prediction differs from its truth on the voxels of the file.

    Attributes:
        dice: NaN where both are empty.
        pred_ml, label_ml: volumes.
        apart_ml: of the prediction's pieces that touch no truth.
        true_slices: how many slices truly have it.
        missed, added: slices that truly have it and don't by the prediction, and the other way round; from 1.
        worst: slice with most wrong voxels, from 1; 0 where none is wrong.
    """

    value: int
    dice: float
    pred_ml: float
    label_ml: float
    apart_ml: float
    true_slices: int
    missed: tuple[int, ...]
    added: tuple[int, ...]
    worst: int


@dataclass(frozen=True)
class Oddities:
    """The differences of a scan's labels, and on which of the file's axes its `slices` slices count."""

    axis: int
    slices: int
    differences: tuple[Difference, ...]

    @property
    def dice(self) -> float:
        """Mean over the labels, NaN where none is in truth or prediction."""
        known = [one.dice for one in self.differences if not math.isnan(one.dice)]
        return sum(known) / len(known) if known else math.nan

    def worst_first(self) -> list[Difference]:
        """Return the labels that are in truth or prediction, lowest Dice first."""
        return sorted((one for one in self.differences if not math.isnan(one.dice)), key=lambda one: one.dice)

    def line(self, names: Mapping[int, str]) -> str:
        """Return what is odd in a line, by `RULE`; names of the label values."""
        ordered = self.worst_first()
        if not ordered:
            return "no structure in truth or prediction"
        told = [(one, ", ".join(_said(one))) for one in ordered]
        odd = [f"{names.get(one.value, str(one.value))}: {said}" for one, said in told if said][:TOLD]
        if odd:
            return "; ".join(odd) + (f"; most wrong on slice {ordered[0].worst} of {self.slices}")
        lowest = ordered[0]
        name = names.get(lowest.value, str(lowest.value))
        if not lowest.worst:
            return "nothing differs from the truth"
        first = f"lowest is {name}, {lowest.dice:.2f}" if len(ordered) > 1 else f"Dice {lowest.dice:.2f}"
        what = "size and slices are right, its outline is not" if lowest.dice < POOR else "nothing odd"
        return f"{what}; {first}, most wrong on slice {lowest.worst} of {self.slices}"


def compare(pred: Tensor, label: Tensor, affine: Any, values: Iterable[int]) -> Oddities:
    """Compare a prediction with the truth.

    Args:
        pred, label: [H, W, D] label values as the file stores them.
        affine: of the file, [4, 4] to mm.
        values: of the labels; 0 is left out.
    """
    found, true = plain(pred).cpu().numpy(), plain(label).cpu().numpy()
    axis = thick_axis(affine)
    voxel_ml = float(np.prod(affine_to_spacing(np.asarray(affine, dtype=float), r=3))) / 1000
    differences = [_difference(value, found == value, true == value, axis, voxel_ml) for value in values if value != 0]
    return Oddities(axis, int(true.shape[axis]), tuple(differences))


def _difference(value: int, found: np.ndarray, true: np.ndarray, axis: int, voxel_ml: float) -> Difference:
    others = tuple(other for other in range(3) if other != axis)
    of_found, of_true, both = (mask.sum(axis=others) for mask in (found, true, found & true))
    wrong = of_found + of_true - 2 * both  # voxels of each slice
    total = int(of_found.sum() + of_true.sum())
    slices = np.arange(1, len(wrong) + 1)
    return Difference(
        value=int(value),
        dice=2 * int(both.sum()) / total if total else math.nan,
        pred_ml=int(of_found.sum()) * voxel_ml,
        label_ml=int(of_true.sum()) * voxel_ml,
        apart_ml=_apart(found, true) * voxel_ml if both.any() else 0.0,
        true_slices=int((of_true > 0).sum()),
        missed=tuple(slices[(of_true > 0) & (of_found == 0)].tolist()),
        added=tuple(slices[(of_true == 0) & (of_found > 0)].tolist()),
        worst=int(wrong.argmax()) + 1 if wrong.any() else 0,
    )


def _apart(found: np.ndarray, true: np.ndarray) -> int:
    """Return how many voxels lie in pieces of `found` that touch no voxel of `true`."""
    (box,) = ndimage.find_objects(found.astype(np.uint8))
    pieces, _ = ndimage.label(found[box], structure=np.ones((3, 3, 3)))
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    sizes[np.unique(pieces[true[box]])] = 0
    return int(sizes.sum())


def _said(one: Difference) -> Iterator[str]:
    if one.pred_ml == 0:
        yield f"not found ({one.label_ml:.1f} ml)"
        return
    if one.label_ml == 0:
        yield f"found where there is none ({one.pred_ml:.1f} ml)"
        return
    if one.dice == 0:
        yield "found elsewhere than it is"
        return
    off = one.pred_ml / one.label_ml - 1
    if abs(off) >= VOLUME_OFF:
        yield f"{percent(abs(off))} too {'large' if off > 0 else 'small'}"
    least = max(SLICES_OFF, SHARE_OF_SLICES * one.true_slices)
    if len(one.missed) >= least:
        yield f"missed on slices {in_ranges(one.missed)}"
    if len(one.added) >= least:
        yield f"too much on slices {in_ranges(one.added)}"
    if one.apart_ml >= APART * one.pred_ml:
        yield f"{one.apart_ml:.1f} ml of it lie apart"
