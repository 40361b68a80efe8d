"""Masks of a few slices: which slices, drawn or given, and their voxels beside the image; no other slice counts."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from ..data.checks import Geometry, check_mask, compare_grids
from ..data.presence import ras_axes, read_slice_labels
from ..errors import InputError
from ..volumes.label import round_labels
from ..volumes.read import read_geometry, read_volume
from ..volumes.volume import Unreadable

SHOWN_SLICES = 8
TIE = 1e-3  # voxels: a sample this close to the middle of two slices may be taken from either


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
    """Add the masks of the labelled slices: `label` and `annotated`, both [1, H, W, D].

    `label` is the class index on the labelled slices and 0 elsewhere; `annotated` is 1 on these slices and 0 elsewhere.
    It stands behind `LoadImaged`, where the image's axes are still those of the file, and before `AddPresenced`, which
    takes `slice_labels` out of the item. Whatever moves, flips or resamples the image (mode nearest, border padding) is
    to be applied to both. An item without labelled slices gets zeros, and no file is opened. `label_slices` is taken
    out of the item.

    Args:
        keys: the image [1, H, W, D], a MetaTensor whose affine and meta both take.
        label_values: value of each class in the mask, background first.
        labelled: case -> indices of its labelled slices; None takes those of the item, `label_slices`.
        pixdim: mm, of the RAS grid to come, as `Orientationd` and `Spacingd` make it. Where it is coarser along the
            slices, nearest sampling would lose labelled slices; each is then repeated on the neighbour that the grid
            takes in its place, half a step away at most.

    Raises:
        InputError: see `read_label_slices`; labelled slices without `slice_labels` or `label`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_values: Iterable[int],
        labelled: Mapping[str, Sequence[int]] | None = None,
        pixdim: Sequence[float] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.label_values = [int(value) for value in label_values]
        self.labelled, self.pixdim = labelled, pixdim

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        image = result[self.first_key(result)]
        own = result.pop("label_slices", None)
        indices = own if self.labelled is None else self.labelled.get(result.get("case"))
        path = result.pop("label", None)
        meta = dict(image.meta) if isinstance(image, MetaTensor) else {}
        shape = tuple(int(n) for n in image.shape[1:])
        label = torch.zeros((1, *shape), dtype=torch.uint8 if len(self.label_values) < 256 else torch.int32)
        annotated = torch.zeros((1, *shape), dtype=torch.uint8)
        if indices is not None and len(indices):
            self._fill(label, annotated, sorted(indices), path, image, result)
        result["label"], result["annotated"] = MetaTensor(label, meta=meta), MetaTensor(annotated, meta=meta)
        return result

    def _fill(self, label: torch.Tensor, annotated: torch.Tensor, indices: list[int], path: str | None, image: Any,
              data: Mapping[Hashable, Any]) -> None:  # fmt: skip
        name, shape = str(data.get("case", "image")), tuple(label.shape[1:])
        lacking = [key for key, value in (("slice_labels", data.get("slice_labels")), ("label", path)) if value is None]
        if lacking:
            raise InputError(f"{name}: has labelled slices but no {' and no '.join(lacking)}; wanted both")
        axis = read_slice_labels(data["slice_labels"], shape, self.label_values, name).axis
        affine = np.asarray(image.meta.get("original_affine", image.affine), dtype=float)
        masks = read_label_slices(path, axis, indices, self.label_values, (shape, affine), name)
        target, source = self._spread(np.asarray(indices), shape[axis], affine, axis)
        label[0].index_copy_(axis, target, torch.from_numpy(masks).index_select(axis, source))
        annotated[0].index_fill_(axis, target, 1)

    def _spread(self, indices: np.ndarray, count: int, affine: np.ndarray, axis: int) -> tuple[torch.Tensor, ...]:
        """Return the stored slices that carry a mask, and for each which of the labelled slices it is from."""
        ratio = 1.0
        if self.pixdim is not None:
            ratio = float(self.pixdim[ras_axes(affine)[axis]]) / float(np.linalg.norm(affine[:3, axis]))
        nearest: dict[int, tuple[float, int]] = {}  # stored slice -> distance, number of the labelled slice
        for number, index in enumerate(indices):
            candidates = {int(index): 0.0}
            if ratio > 1:
                backwards = nibabel.io_orientation(affine)[axis, 1] < 0
                own = count - 1 - index if backwards else index  # counted as the grid counts
                place = min(round(own / ratio), round((count - 1) / ratio)) * ratio
                for met in {math.floor(place + 0.5 - TIE), math.floor(place + 0.5 + TIE)}:
                    met = min(met, count - 1)
                    candidates.setdefault(count - 1 - met if backwards else met, abs(place - own))
            for slice_, distance in candidates.items():
                nearest[slice_] = min(nearest.get(slice_, (math.inf, 0)), (distance, number))
        target = sorted(nearest)
        return torch.tensor(target), torch.tensor([nearest[slice_][1] for slice_ in target])


def _listed(indices: Sequence[int]) -> str:
    more = f" and {len(indices) - SHOWN_SLICES} more" if len(indices) > SHOWN_SLICES else ""
    return ", ".join(str(index) for index in indices[:SHOWN_SLICES]) + more
