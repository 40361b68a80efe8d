"""One bit per slice and label: reading it, writing it, and deriving it from a mask. Needs neither torch nor MONAI."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from ..errors import InputError
from ..files.json_file import read_json

AXES = ("sagittal", "coronal", "axial")  # the slices that the axes R, A and S of a RAS grid count
TELLING_SHARE = 0.9  # of the slices with a label, above which a bit says next to nothing of it
WANTED_BITS = 'wanted a list of 0 and 1, {"first": 10, "last": 22}, or null where it is on no slice'


@dataclass(frozen=True)
class SliceLabels:
    """Presence bits [P, n] of the P foreground labels, sorted by value, on the n slices along array axis `axis`."""

    axis: int
    bits: np.ndarray

    @property
    def share(self) -> np.ndarray:
        """Share of the slices on which each label is present, [P]."""
        return self.bits.mean(1)


def foreground_values(labels: Iterable[int]) -> list[int]:
    """Return the values of the foreground labels (keys of a mapping, or numbers), sorted; row p of the bits is p's."""
    return sorted(int(value) for value in labels if int(value) != 0)


def read_slice_labels(
    entry: Mapping[str, Any] | str, shape: Sequence[int], labels: Iterable[int], name: str
) -> SliceLabels:
    """Read the `slice_labels` of one case.

    Args:
        entry: `{"axis": 0..2, "labels": {"1": bits, ...}}`, or the path of a JSON file with that object. Bits are a
            list with 0 or 1 for each slice; `{"first": 10, "last": 22}`, both included and counted from 0, where a
            person has marked the two ends; or null where the label is on no slice. Every foreground label is named.
        shape: [3], voxels of the image as stored; `axis` is one of its axes.
        labels: values of the labels, or value -> name; 0 is left out.
        name: of the case, for the lines of what is wrong.

    Raises:
        InputError: one line for each problem, all of them together.
    """
    if isinstance(entry, str):
        name = f"{name}: slice_labels {Path(entry).name}"
        entry = read_json(entry, "the bits of its slices", name)
    else:
        name = f"{name}: slice_labels"
    if not isinstance(entry, Mapping) or not isinstance(entry.get("labels"), Mapping):
        raise InputError(f'{name}: found {_shown(entry)}; wanted {{"axis": 2, "labels": {{"1": ...}}}}')
    problems = []
    axis = entry.get("axis")
    if not _is_index(axis, 3):
        raise InputError(f"{name}: axis is {_shown(axis)}; wanted 0, 1 or 2, an axis of the stored image")
    if unknown := sorted(set(entry) - {"axis", "labels"}):
        problems.append(f"{name}: found the key {', '.join(map(str, unknown))}; wanted axis and labels only")
    names = {value: f"label {value}" for value in foreground_values(labels)}
    if isinstance(labels, Mapping):
        names = {value: f"{text} ({labels[value]})" for value, text in names.items()}
    given = {str(key): value for key, value in entry["labels"].items()}
    for key in given.keys() - {str(value) for value in names}:
        wanted = ", ".join(map(str, names))
        problems.append(f"{name}: label {key} is not one of the data set's; wanted {wanted}")
    bits = np.zeros((len(names), int(shape[axis])), dtype=bool)
    for row, (value, text) in enumerate(names.items()):
        if str(value) not in given:
            problems.append(f"{name}: {text} is missing; {WANTED_BITS}")
        elif problem := _fill(bits[row], given[str(value)], axis):
            problems.append(f"{name}: {text} {problem}")
    if problems:
        raise InputError(problems)
    return SliceLabels(axis, bits)


def derive_slice_labels(label: np.ndarray, axis: int, values: Iterable[int]) -> SliceLabels:
    """Return on which slices of a mask [H, W, D], cut along array axis `axis`, each foreground label is present."""
    others = tuple(other for other in range(3) if other != axis)
    return SliceLabels(axis, np.stack([(label == value).any(axis=others) for value in foreground_values(values)]))


def slice_labels_entry(found: SliceLabels, values: Iterable[int], two_clicks: bool = False) -> dict[str, Any]:
    """Return the JSON object that `read_slice_labels` reads.

    Args:
        two_clicks: write the first and the last positive slice alone; gaps between them are then lost.
    """
    labels: dict[str, Any] = {}
    for value, bits in zip(foreground_values(values), found.bits, strict=True):
        where = np.flatnonzero(bits)
        if two_clicks:
            labels[str(value)] = {"first": int(where[0]), "last": int(where[-1])} if len(where) else None
        else:
            labels[str(value)] = [int(bit) for bit in bits] if len(where) else None
    return {"axis": found.axis, "labels": labels}


def ras_axes(affine: np.ndarray) -> list[int]:
    """Return for each array axis the axis of the RAS grid it runs along: 0 (R), 1 (A) or 2 (S)."""
    return [int(axis) for axis in nibabel.io_orientation(np.asarray(affine))[:, 0]]


def _fill(bits: np.ndarray, given: Any, axis: int) -> str | None:
    """Write one label's bits [n]; return what is wrong with them, if anything is."""
    slices = len(bits)
    if given is None:
        return None
    if isinstance(given, Mapping):
        first, last = given.get("first"), given.get("last")
        if set(given) != {"first", "last"} or not _is_index(first, slices) or not _is_index(last, slices):
            return f"is {_shown(given)}; wanted first and last from 0 to {slices - 1}, slices along axis {axis}"
        if first > last:
            return f"has first {first} behind last {last}; wanted first <= last"
        bits[first : last + 1] = True
        return None
    if not isinstance(given, list):
        return f"is {_shown(given)}; {WANTED_BITS}"
    if len(given) != slices:
        return f"has {len(given)} bits; wanted {slices}, one for each slice along axis {axis}"
    wrong = [bit for bit in given if not isinstance(bit, (int, float)) or bit not in (0, 1)]
    if wrong:
        return f"has {_shown(wrong[0])} among its bits; wanted 0 and 1"
    bits[:] = np.asarray(given, dtype=bool)
    return None


def _is_index(value: Any, end: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < end


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."
