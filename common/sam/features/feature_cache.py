"""Frozen features on disk, computed once per image."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ...errors import InputError
from ...files.atomic_write import replacing

_FORMAT = "1"  # raised when the same inputs would give other features, so that old files are not taken
_FLOAT16_MAX = torch.finfo(torch.float16).max


class FeatureCache:
    """Features of frozen encoders as fp16 safetensors, keyed by image content, checkpoint and settings.

    Args:
        folder: where the files go; made on the first write.
        sam_name: name of the encoder, part of the file name.
        checkpoint_sha256: of the weights (`common.sam.weights.known.file_sha256`), or any string that stands for them.
        settings: everything else that changes the features, such as image_size, slice_axis, slices, amp; JSON values.
    """

    def __init__(self, folder: str | Path, sam_name: str, checkpoint_sha256: str, **settings: object) -> None:
        self.folder = Path(folder).expanduser()
        self.sam_name = sam_name
        identity = {"format": _FORMAT, "sam": sam_name, "checkpoint": checkpoint_sha256, "settings": settings}
        self._identity = json.dumps(identity, sort_keys=True)
        self.hits = 0
        self.misses = 0

    def key(self, image: Tensor) -> str:
        """Return the sha256 of image content (shape, dtype, values; device and strides don't matter) and identity."""
        plain = torch.as_tensor(image).detach().cpu().contiguous()
        plain = plain.as_subclass(torch.Tensor)  # a MetaTensor's affine and history are no content
        digest = hashlib.sha256(f"{self._identity}|{tuple(plain.shape)}|{plain.dtype}|".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    def path(self, image: Tensor) -> Path:
        """Return the file that holds, or would hold, the features of this image."""
        return self._file(self.key(image))

    def get(self, image: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the features of `image`, float32 on its device, from disk or by `compute(image)`.

        What is returned went through fp16 in either case, so a first and a later run see the same numbers. A file that
        is damaged, or is not what its name says, is computed anew. Files are written atomically.

        Raises:
            InputError: the features don't fit fp16 (infinite, NaN or above 65504), or the folder can't be written.
        """
        key = self.key(image)
        feature = self._read(key)
        if feature is None:
            self.misses += 1
            with torch.no_grad():
                feature = compute(image).detach().cpu()
            if not torch.isfinite(feature).all() or feature.abs().max() > _FLOAT16_MAX:
                raise InputError(
                    f"{self.sam_name}: found features that are not finite in fp16, wanted an image without NaN or Inf"
                )
            feature = feature.as_subclass(torch.Tensor).half().contiguous()
            self._write(key, feature)
        else:
            self.hits += 1
        return feature.to(image.device, torch.float32)

    def get_row(self, image: Tensor, row: int, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """Return one row of the first axis of what `get` returns, without reading the others from disk.

        Of a row only the key of its file is held against the image: whoever wants many rows has had `get` check the
        whole once.
        """
        key = self.key(image)
        try:
            with safe_open(self._file(key), framework="pt") as file:
                if (file.metadata() or {}).get("key") == key:
                    return file.get_slice("feature")[row].to(image.device, torch.float32)
        except (SafetensorError, OSError, ValueError, KeyError, IndexError):
            pass  # missing or damaged
        return self.get(image, compute)[row]

    def _file(self, key: str) -> Path:
        return self.folder / f"{self.sam_name}_{key[:32]}.safetensors"

    def _read(self, key: str) -> Tensor | None:
        path = self._file(key)
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                said, feature = file.metadata() or {}, file.get_tensor("feature")
        except (SafetensorError, OSError, ValueError, KeyError):
            return None
        sound = said.get("key") == key and feature.dtype == torch.float16 and said.get("sha256") == _content(feature)
        return feature if sound else None

    def _write(self, key: str, feature: Tensor) -> None:
        said = {"key": key, "sha256": _content(feature), "identity": self._identity}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(self._file(key)) as temporary:
                save_file({"feature": feature}, temporary, metadata=said)
        except (OSError, SafetensorError) as error:  # the latter where the disk is full
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{self.folder}: found {reason}, wanted a folder to write features to") from error


def _content(feature: Tensor) -> str:
    return hashlib.sha256(feature.contiguous().reshape(-1).view(torch.uint8).numpy()).hexdigest()
