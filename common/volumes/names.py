"""What files of volumes are called: their endings, and the case that a name stands for."""

from __future__ import annotations

from pathlib import Path

EXTENSIONS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".img.gz", ".img", ".hdr")


def case_id(path: str | Path) -> str:
    """Return the id of a case: the name of its image file (or DICOM folder) without the image extensions."""
    name = Path(path).name
    for extension in EXTENSIONS:
        if name.lower().endswith(extension) and len(name) > len(extension):
            return name[: -len(extension)]
    return name
