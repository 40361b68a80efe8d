"""A DICOM series that shows a bright ball, of a patient whose name is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from support.data.dicom_series import write_series

PATIENT, ID = "Mueller^Anna", "PAT4711"
SIZE, SPACING = (24, 22, 20), 3.0  # voxels; mm


def ball(radius: float) -> np.ndarray:
    """Return voxels [columns, rows, slices]: 900 within a radius (voxels) of the middle, noise around 0 elsewhere."""
    axes = np.meshgrid(*[np.arange(size) - (size - 1) / 2 for size in SIZE], indexing="ij")
    noise = np.random.default_rng(0).normal(0, 10, SIZE)
    return np.rint(900 * (sum(axis**2 for axis in axes) < radius**2) + noise).astype(int)


def write_ball(folder: Path, uid: str, radius: float = 6.0, **changes) -> Path:
    """Write the series `uid`; `changes` are entries of its headers."""
    named = {"PatientName": PATIENT, "PatientID": ID, "SeriesInstanceUID": uid, **changes}
    return write_series(folder, ball(radius), np.diag([-SPACING, -SPACING, SPACING, 1.0]), **named)
