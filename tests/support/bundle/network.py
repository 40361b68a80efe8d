"""The network that a bundle's inference.json builds, with weights that are the same every time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from support.bundle.path import import_bundle


def first_network(bundle: Path, **overrides: Any) -> torch.nn.Module:
    """Return the network of the bundle in a folder, in eval mode.

    Args:
        bundle: folder with configs/, named as the bundle of this repository whose code is used.
        overrides: further keys of inference.json; `grid` is the one to use, by its fields.
    """
    import_bundle(bundle.name)
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "inference.json"))
    if "grid" in overrides:
        overrides |= {"grid::default": overrides.pop("grid"), "ckpt_path": "no such file"}
    parser.update({"bundle_root": str(bundle), "device": "cpu", **overrides})
    torch.manual_seed(0)
    return parser.get_parsed_content("network_def").eval()
