"""Where predictions are written: one folder a case, each file whole or not there at all."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import FolderLayoutBase, NibabelWriter
from monai.transforms import SaveImaged

from ..launch.words import path, truth
from ..volumes.names import case_id


class CaseFolderLayout(FolderLayoutBase):
    """Name a file `<output_dir>/<case>/<case>_<postfix>.nii.gz`, as SaveImaged does by itself, but safely.

    MONAI's own layout drops what follows the last dot, so that two DICOM folders named by their UIDs end in one file.
    """

    def __init__(self, output_dir: str, postfix: str) -> None:
        self.output_dir, self.postfix = Path(output_dir), postfix

    def filename(self, subject: str = "0", **kwargs: Any) -> str:
        """Return the path for an image path `subject`, after making its folder."""
        image = Path(subject)
        case = image.name if image.is_dir() else case_id(image)
        folder = self.output_dir / case
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder / f"{case}_{self.postfix}.nii.gz")


class AtomicNibabelWriter(NibabelWriter):
    """Write NIfTI to a temporary file in the same folder, then rename it: a kill leaves the old file or the new one."""

    def write(self, filename: str | os.PathLike, verbose: bool = False, **obj_kwargs: Any) -> None:
        target = Path(filename)
        temporary = target.with_name(f".{os.getpid()}.{target.name}")  # same extension, which chooses the format
        try:
            super().write(temporary, verbose=verbose, **obj_kwargs)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)


class SavePredictiond(SaveImaged):
    """Write `<output_dir>/<case>/<case>_<postfix>.nii.gz` of one entry; its path is noted in the entry's `saved_to`.

    Being MONAI's `SaveImaged`, it is left out by clients that write predictions themselves.

    Args:
        keys: of the entry.
        output_dir: `~` is the home folder.
        postfix: of the file's name.
        label_values: of a label map, which is written as uint8, or uint16 for values over 255; None: float32.
        wanted: False (or a word for it) writes nothing.

    Raises:
        InputError: `wanted` is neither true nor false.
    """

    def __init__(
        self,
        keys: KeysCollection,
        output_dir: str,
        postfix: str,
        label_values: Sequence[int] | None = None,
        wanted: bool = True,
    ) -> None:
        kind = np.float32 if label_values is None else np.uint8 if max(label_values) < 256 else np.uint16
        super().__init__(
            keys,
            folder_layout=CaseFolderLayout(path(output_dir), postfix),
            output_dtype=kind,
            writer=AtomicNibabelWriter,
            print_log=False,
            savepath_in_metadict=True,
        )
        self.wanted = truth(f"save of {postfix}", wanted)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        return super().__call__(data) if self.wanted else dict(data)
