"""Masks of a data set that tell about some labels alone."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np


def strip(folder: Path, **known: list[int]) -> Path:
    """Give cases `known_labels`, as by training_0=[1], and take from their masks what these don't name."""
    content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    for name, values in known.items():
        group, number = name.split("_")
        case = content[group][int(number)]
        case["known_labels"] = values
        label = nibabel.load(folder / case["label"])
        array = np.asarray(label.dataobj)
        array = np.where(np.isin(array, values), array, 0).astype(np.uint8)
        nibabel.save(nibabel.Nifti1Image(array, label.affine), folder / case["label"])
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder
