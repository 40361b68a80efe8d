"""Masks of a few slices: which slices, drawn or given, and their voxels beside the image; no other slice counts."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from torch import Tensor

from ..data.checks import check_mask
from ..data.presence import read_slice_labels
from ..errors import InputError
from ..grid.field_of_view import TIE, inside_scan
from ..volumes.label import round_labels
from ..volumes.read import read_geometry, read_volume
from ..volumes.volume import Geometry, Unreadable, compare_grids
from .presence_volume import ScanSlices

SHOWN_SLICES = 8


def draw_label_slices(
    bits: Mapping[str, np.ndarray],
    count: int | str,
    seed: int = 0,
    among: Mapping[str, Sequence[int]] | None = None,
    middle: float = 1.0,
) -> list[tuple[str, int]]:
    """Draw the slices (case, index) that count as having a mask, by their presence bits alone.

    The patients take turns in a seeded order, so that as many of them as the budget allows give a slice before any
    gives a second one. Each gives a positive slice, of the label that was drawn for least often so far among those it
    still has. The draw depends on ids and seed, not on the order of the cases, and is nested: the draw of 5 begins the
    draw of 20.

    Args:
        bits: case -> presence bits [P, n] of its slices.
        count: of the slices; a word, as a user may give one, is refused.
        seed: of the draw.
        among: case -> the only slices of it that can be drawn.
        middle: share of a label's positive slices, the innermost ones of each case, that are drawn before the others.
            At its ends a structure is small and says little of what it looks like elsewhere. 1: no slice comes first.

    Raises:
        InputError: `count` is no number from 1 to that of the positive slices, or `middle` is not above 0 and up to 1.
    """
    if isinstance(middle, bool) or not isinstance(middle, int | float) or not 0 < middle <= 1:
        raise InputError(f"draw_from_middle is {middle!r}; wanted a share above 0 and up to 1")
    among = among or {}
    ids = sorted(bits)
    left: dict[str, np.ndarray] = {}  # bits of the slices that are still to be drawn
    turns: dict[str, np.ndarray] = {}  # the order in which a patient's slices are looked at
    for number, case in enumerate(ids):
        left[case] = np.zeros_like(np.asarray(bits[case], dtype=bool))
        open_slices = list(among.get(case, range(left[case].shape[1])))
        left[case][:, open_slices] = bits[case][:, open_slices]
        turns[case] = np.random.default_rng([seed, number]).permutation(left[case].shape[1])
    most = sum(int(found.any(0).sum()) for found in left.values())
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= most:
        raise InputError(f"num_label_slices is {count!r}; wanted 1 to {most}, the positive slices that have a mask")
    drawn: list[tuple[str, int]] = []
    times = np.zeros(len(next(iter(left.values()))), dtype=int)  # how often each label was drawn for
    order = [ids[number] for number in np.random.default_rng(seed).permutation(len(ids))]
    while len(drawn) < count:
        for case in order:
            has = left[case].any(1)
            if len(drawn) == count or not has.any():
                continue
            row = int(np.where(has, times, np.iinfo(int).max).argmin())
            open_slices = [int(i) for i in turns[case] if left[case][row, i]]
            inner = _innermost(np.flatnonzero(bits[case][row]), middle)
            index = next((i for i in open_slices if i in inner), open_slices[0])
            drawn.append((case, index))
            left[case][:, index] = False
            times[row] += 1
    return drawn


def _innermost(indices: np.ndarray, share: float) -> set[int]:
    count = math.ceil(share * len(indices))
    first = (len(indices) - count) // 2
    return set(indices[first : first + count].tolist())


def read_label_slices(
    path: str | Path, axis: int, indices: Sequence[int], label_values: Iterable[int], image: Geometry, name: str
) -> np.ndarray:
    """Read some slices of a mask; the voxels of all others are neither looked at nor have they to make sense.

    Args:
        path: of the mask, on the grid of the image.
        axis: of the stored array, which `indices` count along.
        label_values: value of each class, background first.
        image: shape and affine of the image as stored.
        name: of the case, for the lines of what is wrong.

    Returns:
        Class index of every voxel, uint8 (int32 for over 255 classes), [H, W, D] with the wanted slices at `axis`.

    Raises:
        InputError: one line for each problem: a file that can't be read, another grid than the image's, an index beyond
            the last slice, values that are not declared.
    """
    label_values = [int(value) for value in label_values]
    where = f"{name}: label {Path(path).name}"
    wrong = [index for index in indices if not 0 <= index < image[0][axis]]
    if wrong:
        raise InputError(
            f"{where}: label_slices has {_listed(wrong)}; wanted 0 to {image[0][axis] - 1}, slices along axis {axis}"
        )
    try:
        problems = compare_grids(read_geometry(path), image, "the image")
        slices = None if problems else round_labels(np.take(read_volume(path).array, indices, axis=axis))
    except (Unreadable, OSError) as error:
        raise InputError(f"{where}: {error}") from error
    if slices is not None:
        problems = [f"slices {_listed(indices)}: {problem}" for problem in check_mask(slices, label_values)]
    if problems:
        raise InputError(f"{where}: {problem}" for problem in problems)
    classes = np.zeros(slices.shape, dtype=np.uint8 if len(label_values) < 256 else np.int32)
    for number, value in enumerate(label_values):
        classes[slices == value] = number
    return classes


class AddLabelSlicesd(MapTransform):
    """Add the masks of the labelled slices on the image's grid: `label` and `annotated`, both [1, H, W, D] uint8.

    `label` is the class index on the labelled slices and 0 elsewhere (int32 for over 255 classes); `annotated` is 1 on
    these slices and 0 elsewhere. It stands behind what brings the image to its grid, and before `AddPresenced`, which
    takes `slice_labels` out of the item. Voxels are the nearest of the scan; a labelled slice is on the nearest slice
    of the grid, however coarse that is, once, and never on one beyond the scan. An item without labelled slices gets
    zeros, and no file is opened. `label_slices` is taken out of the item.

    Args:
        keys: the image [1, H, W, D] on the grid, see `inside_scan`; one that knows no scan is the scan itself.
        label_values: value of each class in the mask, background first.
        labelled: case -> indices of its labelled slices; None takes those of the item, `label_slices`.

    Raises:
        InputError: see `read_label_slices`; labelled slices without `slice_labels` or `label`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_values: Iterable[int],
        labelled: Mapping[str, Sequence[int]] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.label_values, self.labelled = [int(value) for value in label_values], labelled

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        image = result[self.first_key(result)]
        own = result.pop("label_slices", None)
        indices = own if self.labelled is None else self.labelled.get(result.get("case"))
        path = result.pop("label", None)
        if indices is not None and len(indices):
            result["label"], result["annotated"] = self._read(sorted(indices), path, image, result)
        else:
            shape = (1, *image.shape[1:])
            result["label"], result["annotated"] = (torch.zeros(shape, dtype=torch.uint8) for _ in range(2))
        return result

    def _read(self, indices: list[int], path: str | None, image: Any, data: Mapping[Hashable, Any]) -> list[Tensor]:
        name = str(data.get("case", "image"))
        lacking = [key for key, value in (("slice_labels", data.get("slice_labels")), ("label", path)) if value is None]
        if lacking:
            raise InputError(f"{name}: has labelled slices but no {' and no '.join(lacking)}; wanted both")
        shape = ScanSlices(image, 0).scan_size
        axis = read_slice_labels(data["slice_labels"], shape, self.label_values, name).axis
        slices = ScanSlices(image, axis)
        affine = np.asarray(image.meta.get("original_affine", image.affine), dtype=float)
        masks = torch.from_numpy(read_label_slices(path, axis, indices, self.label_values, (shape, affine), name))
        number, drawn = self._nearest(slices, indices)
        voxels = [number if own == axis else slices.nearest(own) for own in range(3)]
        label = masks[voxels[0], voxels[1], voxels[2]] * (drawn & inside_scan(image)[0].cpu())
        annotated = drawn.expand(image.shape[1:]).to(torch.uint8)
        return [label[None].contiguous(), annotated[None].contiguous()]

    def _nearest(self, slices: ScanSlices, indices: list[int]) -> tuple[Tensor, Tensor]:
        """Return which of the labelled slices each slice of the grid has, and whether it has one; as `slices.place`."""
        away = (slices.place[..., None] - torch.tensor(indices)) * math.copysign(1, slices.step)
        number = away.abs().argmin(-1)
        nearest = away.gather(-1, number[..., None])[..., 0]
        half = max(abs(slices.step), 1.0) / 2
        # in the middle of two slices of the grid a labelled one is on the first
        return number, (nearest >= -half - TIE) & (nearest < half - TIE) & slices.inside


def _listed(indices: Sequence[int]) -> str:
    more = f" and {len(indices) - SHOWN_SLICES} more" if len(indices) > SHOWN_SLICES else ""
    return ", ".join(str(index) for index in indices[:SHOWN_SLICES]) + more
