"""NIfTI through nibabel, every byte of it."""

from __future__ import annotations

import gzip
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np

from .volume import SMALLEST_SPACING, Unreadable, Volume, first_line, numbers_text, require_3d


def read_nifti(path: Path) -> Volume:
    import nibabel
    from nibabel.imageglobals import LoggingOutputSuppressor

    content = path.read_bytes()
    if path.name.lower().endswith(".gz"):
        try:
            content = gzip.decompress(content)  # all of it: nibabel itself stops before the checksum
        except (OSError, EOFError, zlib.error) as error:
            raise Unreadable(f"not a sound gzip file ({error}); wanted a whole .nii.gz") from error
    classes = {348: nibabel.Nifti1Image, 540: nibabel.Nifti2Image}  # by the size of the header, in either byte order
    size = min(int.from_bytes(content[:4], order) for order in ("little", "big"))
    if size not in classes:
        raise Unreadable("no NIfTI header; wanted a NIfTI file, as its name says")
    image_class = classes[size]
    try:
        with LoggingOutputSuppressor():
            # check=False: nibabel would mend a zero spacing without a word
            raw = image_class.header_class.from_fileobj(BytesIO(content), check=False)
            shape, dtype = raw.get_data_shape(), raw.get_data_dtype()
            require_3d(shape, dtype)
            pixdim = np.asarray(raw["pixdim"][1:4], dtype=float)
            if not np.isfinite(pixdim).all() or pixdim.min() < SMALLEST_SPACING:
                raise Unreadable(f"spacing {numbers_text(pixdim)} mm; wanted more than 0 on every axis")
            image = image_class.from_bytes(content)
            array = np.asanyarray(image.dataobj)
    except Unreadable:
        raise
    except Exception as error:  # nibabel raises many kinds for a broken file
        raise Unreadable(f"not a readable NIfTI file ({first_line(error)})") from error
    return Volume(array, np.asarray(image.affine, dtype=float))
