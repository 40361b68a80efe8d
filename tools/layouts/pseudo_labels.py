"""Predictions of a bundle's inference.json as labels of the scans that they are of, unsure voxels left open."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from common.errors import InputError
from common.files.atomic_write import replacing
from common.volumes.label import read_label
from common.volumes.read import read_geometry
from common.volumes.volume import Unreadable, compare_grids

SEGMENTATION, PROBABILITIES, REVIEW = "seg", "prob", "review.csv"


@dataclass(frozen=True)
class Prediction:
    """A scan with the label that was predicted for it, and the file of the probabilities, where there is one."""

    case: str
    image: Path
    label: Path
    probabilities: Path | None


def find_predictions(cases: Iterable[Mapping[str, Any]], folder: Path) -> list[Prediction]:
    """Return those of the cases that have a `<case>/<case>_seg.nii.gz` in a folder of predictions."""
    found = []
    for case in cases:
        files = [folder / case["case"] / f"{case['case']}_{kind}.nii.gz" for kind in (SEGMENTATION, PROBABILITIES)]
        if files[0].is_file():
            probabilities = files[1] if files[1].is_file() else None
            found.append(Prediction(case["case"], Path(case["image"]), files[0], probabilities))
    return found


def doubtful_cases(folder: Path) -> set[str]:
    """Return the cases of a folder of predictions that its review.csv says to look at.

    Raises:
        InputError: no such file, or one without the columns.
    """
    try:
        with open(folder / REVIEW, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return {row["case"] for row in rows if row["look"] == "yes"}
    except (OSError, KeyError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{folder / REVIEW}: can't be read ({error!r}); wanted the review of an inference without --review false"
        ) from error


def write_pseudo_label(prediction: Prediction, values: Sequence[int], sure: float, target: Path) -> float:
    """Write a prediction with classes 0 to K - 1, and K where its probability is under `sure`; return the share of K.

    Args:
        prediction: of the scan; its files lie on the scan's voxels.
        values: the K label values, background first, in the order of the probabilities' channels.
        sure: 0 to 1; 0 takes every voxel as it is and needs no probabilities.
        target: to write; uint8, uint16 for more than 255 classes.

    Raises:
        InputError: one line: a file that can't be read, another grid or number of classes, a value that isn't one of
            `values`, no probabilities.
    """
    name = prediction.label.name
    try:
        label, image = read_label(prediction.label), read_geometry(prediction.image)
    except (Unreadable, OSError) as error:
        raise InputError(f"{name}: {error}") from error
    if wrong := compare_grids(label.geometry, image, prediction.image.name):
        raise InputError([f"{name}: {line}" for line in wrong])
    classes = np.full(label.array.shape, len(values), dtype=np.uint8 if len(values) < 256 else np.uint16)
    for number, value in enumerate(values):
        classes[label.array == value] = number
    if np.any(classes == len(values)):
        raise InputError(f"{name}: has values besides {', '.join(map(str, values))}; wanted predictions of these")
    if sure > 0:
        classes[_unsure(prediction, classes, len(values), sure)] = len(values)
    with replacing(target) as temporary:
        nibabel.save(nibabel.Nifti1Image(classes, label.affine), temporary)
    return float(np.mean(classes == len(values)))


def _unsure(prediction: Prediction, classes: np.ndarray, count: int, sure: float) -> np.ndarray:
    """Return where the probability of the class that was chosen is under `sure`; one class is in memory at a time."""
    if prediction.probabilities is None:
        raise InputError(
            f"{prediction.case}: has no {prediction.case}_{PROBABILITIES}.nii.gz; wanted predictions with "
            "--save_probabilities true, or --sure 0, which leaves no voxel open"
        )
    stored = nibabel.load(prediction.probabilities)
    if stored.shape != (*classes.shape, count):
        raise InputError(
            f"{prediction.probabilities.name}: shape {stored.shape}; wanted {(*classes.shape, count)}: a channel for "
            "each label on the scan's voxels"
        )
    unsure = np.zeros(classes.shape, dtype=bool)
    for number in range(count):
        unsure |= (classes == number) & (np.asarray(stored.dataobj[..., number]) < sure)
    return unsure
