"""Where predictions are written: one folder a case, each file whole or not there at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from monai.data import FolderLayoutBase, NibabelWriter

from ..data.datalist import case_id


class CaseFolderLayout(FolderLayoutBase):
    """Name a file `<output_dir>/<case>/<case>_<postfix>.nii.gz`, as SaveImaged does by itself, but safely.

    MONAI's own layout drops what follows the last dot, so that two DICOM folders named by their UIDs end in one file.
    """

    def __init__(self, output_dir: str, postfix: str) -> None:
        self.output_dir, self.postfix = Path(output_dir), postfix

    def filename(self, subject: str = "0", **kwargs: Any) -> str:
        """Return the path for an image path `subject`, after making its folder."""
        path = Path(subject)
        case = path.name if path.is_dir() else case_id(path)
        folder = self.output_dir / case
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder / f"{case}_{self.postfix}.nii.gz")


class AtomicNibabelWriter(NibabelWriter):
    """Write NIfTI to a temporary file in the same folder, then rename it: a kill leaves the old file or the new one."""

    def write(self, filename: str | os.PathLike, verbose: bool = False, **obj_kwargs: Any) -> None:
        path = Path(filename)
        temporary = path.with_name(f".{os.getpid()}.{path.name}")  # same extension, which chooses the format
        try:
            super().write(temporary, verbose=verbose, **obj_kwargs)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
