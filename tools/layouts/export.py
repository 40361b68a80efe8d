"""A data set of ours as nnU-Net's: which cases go in with their label, which with a prediction, which stay out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from common.data.datalist import Case, read_datalist
from common.data.nnunet import named_channels
from common.data.selection import few_labeled, given_label_slices, require_whole, strip_labels
from common.errors import InputError

from .pseudo_labels import Prediction, doubtful_cases, find_predictions
from .raw import IGNORE, write_raw

NAME = re.compile(r"Dataset\d{3}_\w+")
SURE = 0.9


def export_nnunet(
    source: Path,
    directory: Path,
    datalist: str = "dataset.json",
    predictions: Path | None = None,
    sure: float = SURE,
    labeled: Sequence[str] | None = None,
    drop_doubtful: bool = False,
    copy: bool = False,
) -> list[str]:
    """Write a raw data set of nnU-Net; return what is in it, in lines.

    Args:
        source: folder of the data set.
        directory: of what is written, DatasetNNN_Name; it has no dataset.json yet.
        datalist: name or path of the datalist.
        predictions: folder of an inference on the scans without a label; None: the labelled cases alone.
        sure: probability under which a predicted voxel gets the ignore label; 0: none does.
        labeled: ids of the training cases whose label is taken, and opened; None: all that have one.
        drop_doubtful: leave out the predicted cases that the review says to look at.
        copy: copy files instead of linking them.

    Raises:
        InputError: what `read_datalist` and `write_raw` raise; another name of the folder; a label that tells about
            some structures or slices alone; no case with a prediction.
    """
    if not NAME.fullmatch(directory.name):
        raise InputError(f"{directory}: wanted a folder that nnU-Net finds, such as nnUNet_raw/Dataset501_Name")
    if not 0 <= sure <= 1:
        raise InputError(f"--sure {sure}; wanted a probability, 0 to 1")
    content = read_datalist(source, datalist)
    if IGNORE in content.labels.values():
        raise InputError(f"labels has {IGNORE}, which has another meaning in nnU-Net; wanted another name for it")
    masked, others = few_labeled(content, None, labeled=labeled)
    require_whole(masked, content.labels, "nnU-Net, which knows no partial masks")
    slices = given_label_slices(content)
    sparse = [case["case"] for case in masked if case["case"] in slices]
    if sparse:
        raise InputError([f"{case}: has masks on its label_slices alone; wanted whole masks" for case in sparse])
    found = [] if predictions is None else _predicted(others, predictions, drop_doubtful)
    channels = named_channels(content.other) or ["MRI"]
    ignored = write_raw(directory, masked, strip_labels(content.test), content.labels, channels, found, sure, copy)
    predicted = f", {len(found)} of {len(others)} others by their prediction" if predictions is not None else ""
    lines = [f"{len(masked)} labelled cases{predicted}, {len(content.test)} images to predict"]
    if found and sure > 0:
        share = sum(ignored.values()) / len(ignored)
        lines.append(f"{share:.2%} of the predicted voxels are under {sure:g} and have the ignore label")
    return lines


def _predicted(others: Sequence[Case], folder: Path, drop_doubtful: bool) -> list[Prediction]:
    found = find_predictions(others, folder)
    doubtful = doubtful_cases(folder) if drop_doubtful else set()
    kept = [case for case in found if case.case not in doubtful]
    if not kept:
        why = f", {len(found)} with a prediction that the review doubts" if found else ""
        raise InputError(
            f"{folder}: found no prediction of the {len(others)} scans without a label{why}; wanted "
            "<case>/<case>_seg.nii.gz of an inference on them"
        )
    return kept
