"""Where predictions are written: one folder a case, each file whole or not there at all."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from monai.config import KeysCollection
from monai.data import FolderLayoutBase, NibabelWriter
from monai.data.utils import to_affine_nd
from monai.transforms import SaveImaged

from ..files.atomic_write import replacing
from ..launch.words import path, truth
from ..volumes.image_reader import FORMS, turned
from ..volumes.names import case_id
from ..volumes.nifti_forms import matching_forms, write_forms


class CaseFolderLayout(FolderLayoutBase):
    """Name a file `<output_dir>/<case>/<case>_<postfix>.nii.gz`, as SaveImaged does by itself, but safely.

    MONAI's own layout drops what follows the last dot, so that two DICOM folders named by their UIDs end in one file.
    """

    def __init__(self, output_dir: str, postfix: str) -> None:
        self.output_dir, self.postfix = Path(output_dir), postfix
        self.channels = 1  # of the scan at hand: of several a file's number is no part of the case

    def filename(self, subject: str = "0", **kwargs: Any) -> str:
        """Return the path for an image path `subject`, after making its folder."""
        image = Path(subject)
        case = image.name if image.is_dir() else case_id(image, self.channels)
        folder = self.output_dir / case
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder / f"{case}_{self.postfix}.nii.gz")


class ScanNibabelWriter(NibabelWriter):
    """Write NIfTI that lies where its scan does, for whatever reads both.

    What is written for a NIfTI scan, on its voxels, gets that file's qform, sform, both codes and its units as they are
    (`nifti_forms` in the metadata); anything else one affine in mm, as qform and as sform. The file is temporary in the
    same folder first, then renamed: a kill leaves the old one or the new one.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.forms: np.ndarray | None = None

    def set_metadata(self, meta_dict: Mapping[str, Any] | None, resample: bool = True, **options: Any) -> None:
        if resample:
            super().set_metadata(meta_dict, resample, **options)
        else:  # MONAI would make a copy in float32, which takes longer than to pack the label map
            self.affine = self.get_meta_info(meta_dict)[1]
        forms = (meta_dict or {}).get(FORMS)
        self.forms = None if forms is None else np.asarray(forms, dtype=float)

    def write(self, filename: str | os.PathLike, verbose: bool = False, **obj_kwargs: Any) -> None:
        data, kind = np.asarray(self.data_obj), np.dtype(self.output_dtype)
        # in the file's order, block by block; nibabel would gather each slice voxel by voxel
        data = turned(data.T, kind).T if data.ndim == 3 else data.astype(kind, copy=False)
        image = nibabel.Nifti1Image(data, to_affine_nd(3, np.asarray(self.affine)))
        header = image.header
        image.set_qform(image.affine, code=1)
        image.set_sform(image.affine, code=1)
        header.set_xyzt_units("mm")
        if (own := matching_forms(self.forms, image.affine, image.shape[:3])) is not None:
            image = nibabel.Nifti1Image(image.dataobj, None, header)  # an affine would be written over the forms
            write_forms(own, image.header)
        with replacing(filename) as temporary:  # of the same extension, which chooses the format
            nibabel.save(image, temporary)


class SavePredictiond(SaveImaged):
    """Write `<output_dir>/<case>/<case>_<postfix>.nii.gz` of one entry; its path is noted in the entry's `saved_to`.

    Of a NIfTI scan it has qform, sform, codes and units (`ScanNibabelWriter`).

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
        self.layout = CaseFolderLayout(path(output_dir), postfix)
        super().__init__(
            keys,
            folder_layout=self.layout,
            output_dtype=kind,
            writer=ScanNibabelWriter,
            print_log=False,
            savepath_in_metadict=True,
            resample=False,  # it lies on the scan's voxels; MONAI would make a copy in float64 to find that out
        )
        self.wanted = truth(f"save of {postfix}", wanted)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        if not self.wanted:
            return dict(data)
        self.layout.channels = len(data["image"]) if "image" in data else 1
        return super().__call__(data)
