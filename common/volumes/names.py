"""What files of volumes are called: their endings, and the case that a name stands for."""

from __future__ import annotations

import re
from pathlib import Path

CHANNEL = re.compile(r"_\d{4}$")  # behind nnU-Net's cases: which channel a file is
EXTENSIONS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".img.gz", ".img", ".hdr")


def case_id(path: str | Path, channels: int = 1) -> str:
    """Return the id of a case: the name of its image file (or DICOM folder) without the image extensions.

    Of several channels it is without the number of one, too.
    """
    name = Path(path).name
    for extension in EXTENSIONS:
        if name.lower().endswith(extension) and len(name) > len(extension):
            name = name[: -len(extension)]
            break
    return CHANNEL.sub("", name) if channels > 1 else name


def channel_file(path: Path, number: int) -> Path:
    """Return where nnU-Net has a channel of the case that a file is of, whether that names a channel itself or not."""
    case = case_id(path)
    return path.with_name(f"{CHANNEL.sub('', case)}_{number:04d}{path.name[len(case) :]}")


def channel_number(path: str | Path) -> int | None:
    """Return which channel of a case a file is by its name; None: it says none."""
    case = case_id(path)
    return int(case[-4:]) if CHANNEL.search(case) else None
