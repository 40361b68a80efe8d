"""The volumes of this room in MONAI's transforms, so that training, inference and clients read what was checked."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, PathLike
from monai.data import ImageReader
from monai.transforms import LoadImage, LoadImaged
from monai.utils import MetaKeys, SpaceKeys, ensure_tuple

from ..errors import InputError
from .read import count_channels, read_channels
from .volume import Unreadable, Volume

FORMS = "nifti_forms"  # key of the metadata: what a NIfTI scan's header says of its place, for what is written for it
KEPT = ("uint8", "int8", "int16", "int32", "float32")  # numbers that torch calculates with
BLOCK = (32, 16, 64)  # voxels that fit into a processor's cache


class VolumeReader(ImageReader):
    """MONAI's face of `read_channels`: one file, or one folder of a DICOM series, as [H, W, D] with its affine, RAS mm.

    Args:
        channels: of a scan; of several it is [C, H, W, D].
        as_stored: a NIfTI file's voxels are a tensor in the file's order of axes, with strides that say so: to turn
            half a gigabyte takes as long as to bring it to a grid.

    Raises:
        InputError: when reading: one line that names the file and what is wrong with it.
    """

    def __init__(self, channels: int = 1, as_stored: bool = False) -> None:
        self.channels, self.as_stored = channels, as_stored

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        return len(ensure_tuple(filename)) == 1

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> list[Volume]:
        (path,) = ensure_tuple(data)
        try:
            return read_channels(path, self.channels)
        except Unreadable as error:
            raise InputError(f"{path}: {error}") from error

    def get_data(self, img: list[Volume]) -> tuple[np.ndarray | torch.Tensor, dict]:
        first = img[0]
        if self.as_stored and len(img) == 1 and first.array.flags.f_contiguous:
            # of an array MONAI would make one in C's order, of a tensor it doesn't
            voxels = torch.from_numpy(for_torch(first.array.T)).permute(2, 1, 0)
        else:
            arrays = [for_torch(volume.array) for volume in img]
            voxels = arrays[0] if len(img) == 1 else np.stack(arrays)
        return voxels, {
            MetaKeys.AFFINE: first.affine.copy(),
            MetaKeys.ORIGINAL_AFFINE: first.affine.copy(),
            MetaKeys.SPATIAL_SHAPE: np.asarray(first.array.shape),
            MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan") if len(img) == 1 else 0,
            MetaKeys.SPACE: SpaceKeys.RAS,
            FORMS: first.forms.copy(),
        }


def for_torch(array: np.ndarray) -> np.ndarray:
    """Return an array [H, W, D], contiguous, in its own kind of number if it is one of KEPT, else int32 or float32."""
    name = array.dtype.name
    kind = np.dtype(name if name in KEPT else np.int32 if name == "uint16" else np.float32)
    return turned(array, kind)


def turned(array: np.ndarray, kind: np.dtype | None = None) -> np.ndarray:
    """Return an array [H, W, D] as one of C's order, of some kind of number, block by block where it has another order.

    The axes of a NIfTI file lie the other way around; to turn them voxel by voxel takes as long as to read them.
    """
    kind = array.dtype if kind is None else kind
    if array.dtype == kind and array.flags.c_contiguous:
        return array
    result = np.empty(array.shape, kind)
    starts = [range(0, n, size) for n, size in zip(array.shape, BLOCK, strict=True)]
    for corner in product(*starts):
        block = tuple(slice(start, start + size) for start, size in zip(corner, BLOCK, strict=True))
        result[block] = np.ascontiguousarray(array[block])
    return result


class LoadImageVolumed(LoadImaged):
    """`LoadImaged` by `VolumeReader` alone: [H, W, D], or [C, H, W, D], a MetaTensor of the file's numbers (`KEPT`).

    Clients that load images themselves know it for MONAI's, by its class or by its name, and leave it out or wrap it.

    Args:
        keys: paths, replaced by what they hold.
        ensure_channel_first: False gives [H, W, D] of a scan of one channel.
        channels, as_stored: see `VolumeReader`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        ensure_channel_first: bool = True,
        allow_missing_keys: bool = False,
        channels: int = 1,
        as_stored: bool = False,
    ) -> None:
        self.channels, self.as_stored = channels, as_stored
        super().__init__(
            keys, dtype=None, ensure_channel_first=ensure_channel_first, allow_missing_keys=allow_missing_keys
        )

    def __call__(self, data: Mapping[Hashable, Any], reader: ImageReader | None = None) -> dict[Hashable, Any]:
        # a reader that is only registered is passed over without a word where it refuses a file
        return super().__call__(data, reader or VolumeReader(self.channels, self.as_stored))


def load_image(path: str | Path) -> Any:
    """Return what one file holds as `LoadImageVolumed` does, all its channels; for pictures."""
    return LoadImage(image_only=True, ensure_channel_first=True)(path, reader=VolumeReader(count_channels(path)))
