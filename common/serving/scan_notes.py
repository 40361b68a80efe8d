"""What a user has to know of a scan besides its prediction."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from ..grid.field_of_view import share_outside
from ..volumes.image_reader import FORMS
from ..volumes.nifti_forms import describe_forms

LEAST_SHARE = 0.005  # of a scan that is worth a line


class ScanNotesd(MapTransform):
    """Print a line for each thing of a scan that its prediction doesn't show; the item is left as it is.

    That part of it lies outside of the model's grid, where nothing was looked at; and that qform and sform of a NIfTI
    file disagree, or are both missing. Clients that run the transforms by themselves get the lines, too.

    Args:
        keys: images as the network saw them, MetaTensors with `original_affine` and `spatial_shape` in their meta.
    """

    def __init__(self, keys: KeysCollection = "image", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        for key in self.key_iterator(dict(data)):
            for note in scan_notes(data[key]):
                print(f"{data[key].meta.get('filename_or_obj', 'scan')}: {note}", flush=True)
        return dict(data)


def scan_notes(image: Any) -> Iterator[str]:
    """Yield the lines on one image, see `ScanNotesd`, without its name."""
    size = [int(n) for n in image.meta["spatial_shape"]][:3]
    affine = image.affine.double().cpu()
    original = torch.as_tensor(image.meta["original_affine"], dtype=torch.float64, device="cpu")
    share = share_outside(torch.linalg.inv(affine) @ original, size, image.shape[1:])
    if share > LEAST_SHARE:
        extent = torch.linalg.norm(affine[:3, :3], dim=0) * torch.tensor(image.shape[1:])
        span = " x ".join(f"{mm:.0f}" for mm in extent.tolist())
        yield f"{100 * share:.0f} % of the scan lies outside of the model's field of view ({span} mm) and was not seen"
    if FORMS in image.meta and (note := describe_forms(image.meta[FORMS], size)) is not None:
        yield note
