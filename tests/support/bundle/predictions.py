"""What a folder of predictions has to be."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

import nibabel
import numpy as np

from support.bundle.run import files_below


def assert_segmented(scans: Path, folder: Path, values: Iterable[int], said: str) -> None:
    """Each scan has one label map, on its own grid and of these values, the run named its file, and judged all."""
    cases = [path.name.removesuffix(".nii.gz") for path in scans.iterdir()]
    review = {"review.csv", "review.html"}
    assert cases and files_below(folder) == {f"{case}/{case}_seg.nii.gz" for case in cases} | review
    with (folder / "review.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["case"] for row in rows} == set(cases) and all(row["view"] for row in rows)  # looked at twice
    for case in cases:
        source = nibabel.load(scans / f"{case}.nii.gz")
        written = nibabel.load(folder / case / f"{case}_seg.nii.gz")
        assert written.shape == source.shape and np.allclose(written.affine, source.affine, atol=1e-4)
        assert set(np.unique(written.dataobj)) <= set(values) and f"{case}_seg.nii.gz" in said
