"""A model whose answer is known: bright voxels are class 1."""

from __future__ import annotations

from pathlib import Path

import torch

from support.bundle.path import import_bundle

ROOT = Path(__file__).resolve().parents[3]
BUNDLE = ROOT / "bundles" / "rrl_medsam"
CONFIG = BUNDLE / "configs" / "inference.json"
CHANNELS = {"channels": [4, 4, 8, 8], "output": "general"}
QUICK = {**CHANNELS, "tta_views": 0, "refine_intensity": 0.0}


def save_model(path: Path, label_values: list[int]) -> Path:
    """Write a model.pt of the bundle's own network in which the image alone decides, at half of its range."""
    grid = {"spatial_size": [32, 32, 32], "pixdim": [3.0, 3.0, 3.0], "label_values": label_values}
    # of the blocks whose last convolution sees the image; that they are these ones is read from the file
    network = import_bundle("rrl_medsam", "network").RRLMedSAMNetwork(**grid, **CHANNELS, blocks="two_conv")
    head = network.general_decoder.head
    with torch.no_grad():
        head.weight.zero_()
        head.bias.zero_()
        head.weight[-1, -1, *(size // 2 for size in head.kernel_size)], head.bias[-1] = 40.0, -20.0
    torch.save(network.state_dict(), path)
    return path
