"""What a folder of predictions has to be."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import nibabel
import numpy as np

from support.bundle.run import files_below


def assert_segmented(scans: Path, folder: Path, values: Iterable[int], said: str) -> None:
    """Each scan has one label map, on its own grid and of these values, and the run named its file."""
    cases = [path.name.removesuffix(".nii.gz") for path in scans.iterdir()]
    assert cases and files_below(folder) == {f"{case}/{case}_seg.nii.gz" for case in cases}
    for case in cases:
        source = nibabel.load(scans / f"{case}.nii.gz")
        written = nibabel.load(folder / case / f"{case}_seg.nii.gz")
        assert written.shape == source.shape and np.allclose(written.affine, source.affine, atol=1e-4)
        assert set(np.unique(written.dataobj)) <= set(values) and f"{case}_seg.nii.gz" in said
