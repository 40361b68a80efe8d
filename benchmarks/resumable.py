"""What benchmarks share whose rows are runs of a bundle's train.json: results that go on, and the config of a row."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser


def read_results(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the results in the file `arguments.output`, or new ones without rows."""
    output = Path(arguments.output)
    if output.exists():
        return json.loads(output.read_text(encoding="utf-8"))
    return {"arguments": vars(arguments), "rows": []}


def row_parser(
    bundle: Path, arguments: argparse.Namespace, fixed: Mapping[str, Any], overrides: Mapping[str, Any]
) -> ConfigParser:
    """Return train.json of a bundle with what the benchmark fixes, the grid and settings of `arguments`, and the row's
    overrides; what comes later counts.
    """
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "train.json"))
    grid = {"spatial_size": arguments.spatial_size, "pixdim": arguments.pixdim} if arguments.spatial_size else {}
    for key, value in {**fixed, **grid, **json.loads(arguments.settings), **overrides}.items():
        parser[key] = value
    parser["train::trainer::plan"] = None  # the benchmark does the stages before it itself
    return parser
