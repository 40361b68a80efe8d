"""Packed bundles with tiny networks that were never trained, as they arrive at another site."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from support.bundle.network import first_network
from support.bundle.path import BUNDLES
from support.bundle.sources import copy_sources
from tools.pack import pack
from tools.unpack import unpack

# full precision: in bfloat16 TorchScript and Python round differently
SMALL = {"channels": [4, 8], "strides": [2], "amp": False}
TINY = {
    "rrl_medsam": {"channels": [4, 4, 8, 8], "amp": False},
    "semisam_plus": SMALL,
    "weakmedsam": SMALL,
    "ada_sam": SMALL,
    "sam_adapters": SMALL,
}
# neither the grid nor the labels of inference.json's default: what isn't read from the model shows
GRID = {"spatial_size": [32, 32, 24], "pixdim": [3.1, 3.2, 3.5], "label_values": [0, 1, 2, 5, 7, 9]}


def unpacked_bundle(name: str, folder: Path, grid: dict[str, list]) -> Path:
    """Give a bundle a tiny network for `grid`, pack it, unpack it at `folder`/site and return its folder there."""
    repository = folder / "repository"
    bundle = copy_sources(BUNDLES / name, repository / "bundles" / name)
    copy_sources(BUNDLES.parent / "common", repository / "common")
    config = bundle / "configs" / "inference.json"
    config.write_text(json.dumps(json.loads(config.read_text(encoding="utf-8")) | TINY[name], indent=4))
    model = folder / "model.pt"
    torch.save(first_network(bundle, grid=grid).state_dict(), model)
    path, _ = pack(bundle, folder / "dist", model)
    return unpack(path, folder / "site")[0]
