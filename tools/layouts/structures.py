"""Masks of one structure each, as TotalSegmentator writes them, merged into one label map."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import nibabel
import numpy as np

from common.data.checks import distinct_values
from common.errors import InputError
from common.files.atomic_write import replacing
from common.volumes.label import find_fractions, read_label
from common.volumes.read import read_geometry
from common.volumes.volume import Unreadable, compare_grids, numbers_text


def merge_masks(
    masks: Mapping[int, Path], image: Path, target: Path, labels: Mapping[int, str], most_shared: float
) -> str | None:
    """Write a label map of masks; return in words what lay in several of them, None where nothing did.

    A voxel in several masks goes to the structure that has the fewest voxels, which would miss it most.

    Args:
        masks: label value -> file, whose voxels are 0 outside the structure and one other number in it.
        image: of the scan, whose grid all of them have.
        target: to write; uint8, uint16 where a value is over 255.
        labels: value -> name.
        most_shared: the largest share of a structure's voxels that may lie in others.

    Raises:
        InputError: one line for each mask that can't be read, has another grid or further values, or shares more.
    """
    try:
        geometry = read_geometry(image)
    except (Unreadable, OSError) as error:
        raise InputError(f"{image}: {error}") from error
    label = np.zeros(geometry[0], dtype=np.uint8 if max(labels) < 256 else np.uint16)
    several = np.zeros(geometry[0], dtype=bool)
    sizes, problems = np.zeros(max(labels) + 1, dtype=np.int64), []
    for value, file in masks.items():
        mask, wrong = _read_mask(file, geometry, image.name)
        problems += [f"{file.parent.name}/{file.name}: {line}" for line in wrong]
        if wrong:
            continue
        sizes[value] = np.count_nonzero(mask)
        taken = mask & (label > 0)
        several |= taken
        label[mask & ~(taken & (sizes[label] < sizes[value]))] = value
    if problems:
        raise InputError(problems)
    kept = np.bincount(label.ravel(), minlength=len(sizes))
    won = np.bincount(label[several], minlength=len(sizes))
    problems = [
        f"{masks[value].parent.name}/{masks[value].name}: {shared:.0%} of {labels[value]} lies in other structures' "
        f"masks; wanted {most_shared:.0%} at most, structures that are no parts of others, or a larger --shared"
        for value in masks
        if sizes[value] and (shared := (sizes[value] - kept[value] + won[value]) / sizes[value]) > most_shared
    ]
    if problems:
        raise InputError(problems)
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as temporary:
        nibabel.save(nibabel.Nifti1Image(label, geometry[1]), temporary)
    if not several.any():
        return None
    share = several.sum() / np.count_nonzero(label)
    return f"{several.sum()} voxels ({share:.2%} of the label) in several masks, given to the smaller structure"


def _read_mask(file: Path, geometry: tuple[tuple[int, ...], np.ndarray], image: str) -> tuple[np.ndarray, list[str]]:
    """Return a mask as bool, and what is wrong with it, a line each."""
    try:
        volume = read_label(file)
    except (Unreadable, OSError) as error:
        return np.zeros(0, dtype=bool), [str(error)]
    problems = compare_grids(volume.geometry, geometry, image)
    values = distinct_values(volume.array)
    fractions = find_fractions(values)
    if fractions:
        problems.append(fractions)
    elif len(found := values[values != 0]) > 1:
        problems.append(f"the mask has the values {numbers_text(found)}; wanted one beside 0: one structure a file")
    return volume.array != 0, problems
