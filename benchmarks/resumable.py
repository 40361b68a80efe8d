"""What benchmarks share whose rows are runs of a bundle's train.json: options, results that go on, a row's config."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser


def options(about: str, work: str) -> argparse.ArgumentParser:
    """Return the parser of the options that all have; `work` says what is in the folder of that name."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("dataset_dir")
    parser.add_argument("--output", required=True, type=os.path.expanduser)
    parser.add_argument("--work", required=True, type=os.path.expanduser, help=work)
    parser.add_argument("--spatial-size", type=json.loads)
    parser.add_argument("--pixdim", type=json.loads)
    parser.add_argument("--threads", type=int, default=1)
    return parser


def read_options(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Return the options of the command line, and keep torch to as many threads as they say."""
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    return arguments


def read_results(arguments: argparse.Namespace, **empty: Any) -> dict[str, Any]:
    """Return the results in the file `arguments.output`, or new ones, which are `empty`."""
    output = Path(arguments.output)
    if output.exists():
        return json.loads(output.read_text(encoding="utf-8"))
    return {"arguments": vars(arguments), **empty}


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
    parser["train::trainer::plan"] = None  # the benchmark takes its steps one by one
    return parser
