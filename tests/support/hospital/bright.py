"""A bundle whose answer anybody can see: what is bright is the label "bright"."""

from __future__ import annotations

import json
from pathlib import Path

from support.clients.monailabel_server import GRID, make_repository
from support.networks.bright_model import QUICK, save_model
from tools.describe_model import describe_model

NAME = "bright"


def make_bright(folder: Path) -> Path:
    """Return rrl_medsam's folder, under the name of this model, with weights of which the image alone decides."""
    bundle = make_repository(folder, "rrl_medsam") / "rrl_medsam"
    config = bundle / "configs" / "inference.json"
    content = json.loads(config.read_text(encoding="utf-8")) | QUICK
    content["grid"]["default"] = {**GRID, "label_values": [0, 1]}
    config.write_text(json.dumps(content, indent=4), encoding="utf-8")
    describe_model(bundle, ["background", NAME], save_model(bundle / "models" / "model.pt", [0, 1]))
    return bundle.rename(bundle.with_name(NAME))
