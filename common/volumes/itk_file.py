"""MetaImage, NRRD and whatever else SimpleITK reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .volume import Unreadable, Volume, last_line, require_3d


def read_itk(path: Path) -> Volume:
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        shape, components = reader.GetSize(), reader.GetNumberOfComponents()
        if components > 1:
            raise Unreadable(f"{components} channels, shape {tuple(shape)}; wanted one grey channel")
        is_complex = "complex" in SimpleITK.GetPixelIDValueAsString(reader.GetPixelID())
        require_3d(shape, np.dtype(np.complex64 if is_complex else np.float32))
        image = reader.Execute()
    except RuntimeError as error:
        raise Unreadable(f"not a readable image ({last_line(error)})") from error
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])  # ITK counts in LPS
    return Volume(SimpleITK.GetArrayViewFromImage(image).transpose(2, 1, 0).copy(), to_ras @ affine)
