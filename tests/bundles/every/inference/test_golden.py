"""The same weights and the same image give the same labels as when this was written, on any machine."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from support.bundle.path import BUNDLES, import_bundle

NAMES = sorted(path.name for path in BUNDLES.iterdir() if (path / "configs" / "inference.json").is_file())
STORED = Path(__file__).parents[3] / "support" / "data" / "golden_labels.json"
SIDE, VALUES = 16, [0, 1, 2]


def labels_of(bundle: str, **settings: str) -> np.ndarray:
    """Class of every voxel, [16, 16, 16] uint8, by weights that are a formula."""
    import_bundle(bundle)
    parser = ConfigParser()
    parser.read_config(BUNDLES / bundle / "configs" / "inference.json")
    grid = {"spatial_size": [SIDE] * 3, "pixdim": [2.0, 2.5, 3.0], "label_values": VALUES}
    # bfloat16 runs where a CPU has it, and no two kinds round alike
    parser.update({"ckpt_path": "", "grid::default": grid, "device": "cpu", "amp": False})
    parser.update(settings)
    network = parser.get_parsed_content("network_def").eval()
    for number, (name, weight) in enumerate(network.named_parameters()):
        wave = torch.sin(0.7 * torch.arange(weight.numel(), dtype=torch.float64) ** 1.1 + number)
        scale = math.sqrt(4 / weight[0].numel()) if weight.ndim > 1 else 0.1
        base = 1.0 if weight.ndim == 1 and name.endswith("weight") else 0.0
        with torch.no_grad():
            weight.copy_((base + scale * wave).reshape(weight.shape))
    place = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, SIDE)] * 3, indexing="ij"))
    image = torch.exp(-3 * (place - torch.tensor([0.2, -0.1, 0.1])[:, None, None, None]).square().sum(0))
    with torch.no_grad():
        pred = parser.get_parsed_content("inferer")(image[None, None], network)
    return pred[0].argmax(0).numpy().astype(np.uint8)


def as_text(labels: np.ndarray) -> str:
    return zlib.compress(labels.tobytes(), 9).hex()


@pytest.mark.parametrize(
    ("bundle", "settings"), [*((name, {}) for name in NAMES), ("rrl_medsam", {"blocks": "two_conv"})]
)
def test_labels_are_those_that_are_stored(bundle, settings):
    text = json.loads(STORED.read_text(encoding="utf-8"))[" ".join([bundle, *settings.values()])]
    stored = np.frombuffer(zlib.decompress(bytes.fromhex(text)), np.uint8).reshape([SIDE] * 3)
    found = labels_of(bundle, **settings)
    assert len(np.unique(stored)) == len(VALUES)  # or it would say little
    for value in VALUES:
        both = 2 * ((found == value) & (stored == value)).sum() / ((found == value).sum() + (stored == value).sum())
        assert both >= 0.999, (value, both)
