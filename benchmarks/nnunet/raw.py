"""A data set's cases in nnU-Net's raw layout."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from common.files.atomic_write import write_atomic

Case = Mapping[str, Any]
ENDING = ".nii.gz"
LEAST = 2  # nnU-Net's planning wants that many


def write_raw(
    folder: Path, labelled: Sequence[Case], scored: Sequence[Case], labels: Mapping[int, str], channel: str
) -> Path:
    """Write imagesTr, labelsTr, imagesTs and dataset.json of a data set; images are linked, not copied.

    Label values become 0 to K - 1, as nnU-Net wants them, in the order of `labels`. A single labelled case is there
    twice.

    Args:
        folder: of the data set, DatasetNNN_Name; what is there goes.
        labelled: cases with `image` and `label` that are learnt from.
        scored: cases that are predicted; their labels are not looked at.
        labels: value -> name, background included.
        channel: what the image is, such as CT or MRI: nnU-Net scales intensities by it.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / name).mkdir(parents=True)
    taught = [(case["case"], case) for case in labelled]
    if len(taught) < LEAST:
        taught += [(f"{name}_again", case) for name, case in taught]
    for name, case in taught:
        _place(Path(case["image"]), folder / "imagesTr" / f"{name}_0000{ENDING}")
        _write_label(Path(case["label"]), folder / "labelsTr" / f"{name}{ENDING}", list(labels))
    for case in scored:
        _place(Path(case["image"]), folder / "imagesTs" / f"{case['case']}_0000{ENDING}")
    content = {
        "channel_names": {"0": channel},
        "labels": {name: number for number, name in enumerate(labels.values())},
        "numTraining": len(taught),
        "file_ending": ENDING,
    }
    write_atomic(folder / "dataset.json", json.dumps(content, indent=1) + "\n")
    return folder


def to_values(classes: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """Return a prediction of classes 0 to K - 1 as the data set's own label values."""
    return np.asarray(values, dtype=np.int32)[np.asarray(classes, dtype=np.int64)]


def _place(image: Path, place: Path) -> None:
    """Link an image, or bring it into the one kind of file."""
    if image.name.endswith(ENDING):
        place.symlink_to(image.resolve())
    else:
        nibabel.save(nibabel.load(image), place)


def _write_label(label: Path, place: Path, values: Sequence[int]) -> None:
    if list(values) == list(range(len(values))) and label.name.endswith(ENDING):
        place.symlink_to(label.resolve())
        return
    loaded = nibabel.load(label)
    found = np.rint(np.asarray(loaded.dataobj)).astype(np.int32)
    classes = np.zeros(found.shape, dtype=np.uint8)
    for number, value in enumerate(values):
        classes[found == value] = number
    nibabel.save(nibabel.Nifti1Image(classes, loaded.affine), place)
