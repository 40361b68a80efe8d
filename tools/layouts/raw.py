"""A raw data set of nnU-Net: labelled cases as they are, pseudo-labelled ones with an ignore label where unsure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from common.errors import InputError
from common.files.atomic_write import replacing, write_atomic
from common.volumes.label import read_label
from common.volumes.names import channel_file
from common.volumes.read import count_channels, read_channels
from common.volumes.volume import Unreadable

from .dataset import bring
from .pseudo_labels import Prediction, write_pseudo_label

Case = Mapping[str, Any]
ENDING = ".nii.gz"
LEAST = 2  # nnU-Net's planning wants that many
IGNORE = "ignore"
FOLDERS = ("imagesTr", "labelsTr", "imagesTs")


def write_raw(
    folder: Path,
    labelled: Sequence[Case],
    scored: Sequence[Case],
    labels: Mapping[int, str],
    channels: Sequence[str],
    predicted: Sequence[Prediction] = (),
    sure: float = 0.0,
    copy: bool = False,
) -> dict[str, float]:
    """Write imagesTr, labelsTr, imagesTs and, last, dataset.json; images are linked where they can be.

    Label values become 0 to K - 1, as nnU-Net wants them, in the order of `labels`; with `sure` above 0 the value K is
    nnU-Net's ignore label. A single case is there twice.

    Args:
        folder: of the data set, DatasetNNN_Name.
        labelled: cases with `image` and `label` that are learnt from.
        scored: cases that are predicted; their labels are not looked at.
        labels: value -> name, background included.
        channels: what they are, such as CT or MRI: nnU-Net scales intensities by it.
        predicted: scans whose label is a prediction.
        sure: see `write_pseudo_label`.
        copy: copy files instead of linking them.

    Returns:
        The share of ignored voxels of each predicted case.

    Raises:
        InputError: one line for each file that can't be read.
    """
    for name in FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    taught: list[tuple[str, Case | Prediction]] = [(case["case"], case) for case in labelled]
    taught += [(case.case, case) for case in predicted]
    if len(taught) < LEAST:
        taught += [(f"{name}_again", case) for name, case in taught]
    values, ignored, problems = list(labels), {}, []
    for name, case in taught:
        target = folder / "labelsTr" / f"{name}{ENDING}"
        try:
            if isinstance(case, Prediction):
                ignored[name] = write_pseudo_label(case, values, sure, target)
                _place(case.image, folder / "imagesTr", name, len(channels), copy)
            else:
                _write_label(Path(case["label"]), target, values, copy)
                _place(Path(case["image"]), folder / "imagesTr", name, len(channels), copy)
        except InputError as error:
            problems += error.problems
        except Unreadable as error:
            problems.append(f"{name}: {error}")
    for case in scored:
        try:
            _place(Path(case["image"]), folder / "imagesTs", case["case"], len(channels), copy)
        except Unreadable as error:
            problems.append(f"{case['case']}: {error}")
    if problems:
        raise InputError(problems)
    numbered = {name: number for number, name in enumerate(labels.values())}
    content = {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": numbered | ({IGNORE: len(numbered)} if predicted and sure > 0 else {}),
        "numTraining": len(taught),
        "file_ending": ENDING,
    }
    write_atomic(folder / "dataset.json", json.dumps(content, indent=1) + "\n")
    return ignored


def to_values(classes: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """Return a prediction of classes 0 to K - 1 as the data set's own label values."""
    return np.asarray(values, dtype=np.int32)[np.asarray(classes, dtype=np.int64)]


def _place(image: Path, folder: Path, case: str, channels: int, copy: bool) -> None:
    """Bring a file for each channel: as it is, or as the one kind of file where it is another."""
    targets = [folder / f"{case}_{number:04d}{ENDING}" for number in range(channels)]
    if image.name.endswith(ENDING) and (channels == 1 or count_channels(image) == 1):
        for number, target in enumerate(targets):
            bring(image if channels == 1 else channel_file(image, number), target, copy)
        return
    for volume, target in zip(read_channels(image, channels), targets, strict=True):
        with replacing(target) as temporary:
            nibabel.save(nibabel.Nifti1Image(volume.array, volume.affine), temporary)


def _write_label(label: Path, target: Path, values: Sequence[int], copy: bool) -> None:
    if list(values) == list(range(len(values))) and label.name.endswith(ENDING):
        bring(label, target, copy)
        return
    found = read_label(label)
    classes = np.zeros(found.array.shape, dtype=np.uint8 if len(values) < 256 else np.uint16)
    for number, value in enumerate(values):
        classes[found.array == value] = number
    with replacing(target) as temporary:
        nibabel.save(nibabel.Nifti1Image(classes, found.affine), temporary)
