"""What a run holds: tensors in memory, files in folders."""

from __future__ import annotations

import gc
from pathlib import Path

import torch
from monai.data import MetaTensor

MIB = 2**20
KINDS = (torch.Tensor, torch.nn.Parameter, MetaTensor)


def held_mib() -> float:
    """Return the MiB of all tensors in this process's memory, those that share theirs once."""
    storages = {}
    for one in gc.get_objects():
        # by their exact kind: others, as an export leaves behind, may have no memory, and proxies are no tensors
        if type(one) in KINDS and one.device.type == "cpu" and one.layout is torch.strided:
            storage = one.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values()) / MIB


def folder_size(folder: Path) -> float:
    """Return the bytes of all files below a folder."""
    return float(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))
