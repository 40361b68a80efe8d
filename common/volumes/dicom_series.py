"""A folder of DICOM files as one volume."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .volume import Unreadable, Volume, last_line, require_3d


def read_dicom(path: Path) -> Volume:
    from monai.data import ITKReader

    try:
        reader = ITKReader()
        array, meta = reader.get_data(reader.read(str(path)))
    except Exception as error:
        raise Unreadable(f"not a readable DICOM series ({last_line(error)})") from error
    require_3d(array.shape, array.dtype)
    return Volume(array, np.asarray(meta["affine"], dtype=float))
