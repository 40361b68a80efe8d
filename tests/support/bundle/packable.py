"""A bundle of the repository with a tiny network and a model.pt, in a repository of its own that a test may change."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from support.bundle.network import first_network
from support.bundle.path import BUNDLES
from support.bundle.sources import copy_sources

NAME = "weakmedsam"
TINY = {"channels": [4, 8], "strides": [2]}


def make_bundle(folder: Path, model: bool = True) -> Path:
    """Return the folder of the bundle, `folder`/bundles/weakmedsam, with its link to `folder`/common."""
    bundle = copy_sources(BUNDLES / NAME, folder / "bundles" / NAME)
    copy_sources(BUNDLES.parent / "common", folder / "common")
    config = bundle / "configs" / "inference.json"
    content = json.loads(config.read_text(encoding="utf-8")) | TINY
    config.write_text(json.dumps(content, indent=4), encoding="utf-8")
    (bundle / "models").mkdir()
    if model:
        torch.save(first_network(bundle).state_dict(), bundle / "models" / "model.pt")
    return bundle
