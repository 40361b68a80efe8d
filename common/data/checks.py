"""Look at every image and label once, before anything heavy starts, and say all that is wrong with them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import ignite.distributed as idist
import numpy as np

from ..errors import InputError
from ..grid.ranges import RangeSamples
from ..volumes.label import find_fractions, read_label, round_labels
from ..volumes.nifti_forms import describe_forms
from ..volumes.read import read_channels
from ..volumes.volume import Unreadable, Volume, compare_grids, find_no_contrast, numbers_text
from .presence import read_slice_labels

MOST_VALUES = 65536  # of a mask

Case = Mapping[str, Any]
T = TypeVar("T")
Progress = Callable[[Sequence[Case]], Iterable[Case]]


def require_sound(
    *groups: Sequence[Case],
    label_values: Collection[int],
    dataset_dir: str | Path | None = None,
    needs_foreground: Collection[str] = (),
    read_labels: bool = True,
    slice_labels: bool = False,
    progress: Progress | None = None,
    samples: RangeSamples | None = None,
    channels: int = 1,
) -> None:
    """Check all cases of all groups, also against each other; say in a line where a scan's place is in doubt.

    A case that must stay unlabelled is given without its `label` key: its mask is then never opened.

    Raises:
        InputError: one line for each problem of each case, all of them together.
    """
    cases = [case for group in groups for case in group]
    problems = check_cases(
        cases,
        label_values,
        read_labels=read_labels,
        slice_labels=slice_labels,
        progress=progress,
        dataset_dir=dataset_dir,
        needs_foreground=needs_foreground,
        samples=samples,
        channels=channels,
        remarks=(remarks := []),
    )
    for line in remarks if idist.get_rank() == 0 else ():
        print(line, flush=True)
    if problems:
        raise InputError(problems)


def check_cases(
    cases: Sequence[Case],
    label_values: Collection[int],
    read_labels: bool = True,
    progress: Progress | None = None,
    dataset_dir: str | Path | None = None,
    needs_foreground: Collection[str] = (),
    slice_labels: bool = False,
    remarks: list[str] | None = None,
    samples: RangeSamples | None = None,
    channels: int = 1,
) -> list[str]:
    """Open every image, and every label that a case has, and return one line for each problem.

    Args:
        cases: dicts with `image` and optionally `case`, `label`, a path as the image is, and `known_labels`.
        label_values: the values that a mask may have, 0 included; of a case with `known_labels` these and 0 alone.
        read_labels: False leaves all labels closed.
        progress: wraps the list of cases while it is walked, as `rich.progress.track` and `tqdm.tqdm` do.
        dataset_dir: folder that the paths in the lines are relative to.
        needs_foreground: ids of the cases whose mask is learnt from and must not be empty.
        slice_labels: hold the `slice_labels` of the cases that have them against labels and image.
        remarks: gets a line for each image whose place in space is in doubt, which is no problem.
        samples: gets voxels of each image and of its label.
        channels: that every image has to have.
    """
    problems: list[str] = []
    digests: dict[bytes, str] = {}
    for case in cases if progress is None else progress(cases):
        image_name = _relative(case["image"], dataset_dir)
        image = _try_read(case["image"], image_name, problems, lambda path: read_channels(path, channels))
        unusable = [find_no_contrast(volume.array) for volume in image or []]
        problems += [f"{image_name}: {problem}" for problem in unusable if problem is not None]
        if image is not None:
            first = image[0]
            remark = describe_forms(first.forms, first.array.shape) if remarks is not None else None
            if remark is not None:
                remarks.append(f"{image_name}: {remark}")
            digest = hashlib.blake2b(digest_size=16)
            for volume in image:
                digest.update(np.asfortranarray(volume.array).T.data)
            earlier = digests.setdefault(digest.digest() + str(first.array.shape).encode(), image_name)
            if earlier != image_name:
                problems.append(f"{image_name}: the same voxels as {earlier}; wanted every scan once")
            if slice_labels and case.get("slice_labels") is not None:
                problems += _check_slice_labels(case["slice_labels"], first, label_values, image_name)
        label = None
        if read_labels and "label" in case:
            label_name = _relative(case["label"], dataset_dir)
            label = _try_read(case["label"], label_name, problems, read_label)
        if samples is not None and image is not None:
            samples.add(case.get("case"), [one.array for one in image], None if label is None else label.array)
        if label is not None:
            told, kind = label_values, "those declared"
            if "known_labels" in case:
                told, kind = [0, *case["known_labels"]], "background and its known_labels"
            found = check_mask(label.array, told, case.get("case") in needs_foreground, kind)
            if image is not None:
                found += compare_grids(label.geometry, image[0].geometry, image_name)
            problems += [f"{label_name}: {problem}" for problem in found]
    return problems


def check_mask(
    array: np.ndarray, label_values: Collection[int], needs_foreground: bool = False, kind: str = "those declared"
) -> list[str]:
    """Return what is wrong with the values of a mask, or of some slices of one; no line where nothing is.

    `kind` is what a line calls the values that it may have.
    """
    values = round_labels(distinct_values(array))
    fractions = find_fractions(values)
    if fractions:
        return [fractions]
    if values.size > MOST_VALUES:
        return [f"the mask has more than {MOST_VALUES} different values; wanted only those declared"]
    problems = []
    unknown = sorted({int(value) for value in values} - set(label_values))
    if unknown:
        wanted = ", ".join(str(value) for value in sorted(label_values))
        problems.append(f"the mask has the values {numbers_text(unknown)}; wanted only {kind}: {wanted}")
    if needs_foreground and not values.any():
        problems.append("the mask is empty; wanted at least one labelled voxel, since it is learnt from")
    elif needs_foreground and values.size == 1:
        problems.append(f"every voxel of the mask is {values[0]:g}; wanted some of another label, or background")
    return problems


def distinct_values(array: np.ndarray) -> np.ndarray:
    """Return the values that occur, sorted; where there are more than MOST_VALUES, some more than that."""
    found = np.unique(array[..., :0])
    for index in range(array.shape[-1]):  # slice by slice: to sort all voxels takes long, and as much memory again
        found = np.union1d(found, array[..., index])
        if found.size > MOST_VALUES:
            break
    return found


def _check_slice_labels(entry: Any, image: Volume, labels: Collection[int], image_name: str) -> list[str]:
    try:
        read_slice_labels(entry, image.array.shape, labels, image_name)
    except InputError as error:
        return error.problems
    return []


def _try_read(path: str | Path, name: str, problems: list[str], read: Callable[[str | Path], T]) -> T | None:
    try:
        return read(path)
    except Unreadable as error:
        problems.append(f"{name}: {error}")
    except OSError as error:
        problems.append(f"{name}: cannot be read ({error.strerror or error})")
    return None


def _relative(path: str | Path, dataset_dir: str | Path | None) -> str:
    path = Path(path).absolute()
    if dataset_dir is not None and path.is_relative_to(Path(dataset_dir).absolute()):
        return path.relative_to(Path(dataset_dir).absolute()).as_posix()
    return str(path)
