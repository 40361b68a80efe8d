"""What a run holds: tensors in memory, files in folders."""

from __future__ import annotations

import gc
from pathlib import Path

import torch

MIB = 2**20


def held_mib() -> float:
    """Return the MiB of all tensors in this process's memory, those that share theirs once."""
    storages = {}
    for one in gc.get_objects():
        if issubclass(type(one), torch.Tensor) and one.device.type == "cpu" and one.layout is torch.strided:
            storage = one.untyped_storage()
            try:
                storages[storage.data_ptr()] = storage.nbytes()
            except RuntimeError:  # what an export leaves behind has no memory
                continue
    return sum(storages.values()) / MIB


def folder_size(folder: Path) -> float:
    """Return the bytes of all files below a folder."""
    return float(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))
