"""The plan of a federation whose data nobody can look at: what its sites have agreed on, given as settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from common.data.datalist import read_labels
from common.errors import InputError
from common.grid.grid import make_grid
from common.grid.plan import agreed_level
from common.launch.words import PERCENTILES, number, optional, per_axis, ranges

from .sites import GRID, RANGES, Plan, Site, begin, first_weights, open_bundle

EXAMPLES = {"spatial_size": "[64,56,48]", "pixdim": "[1.75,1.75,1.75]", RANGES: "[-160,240] or percentiles"}


def agreed_plan(
    bundle: Path, settings: Mapping[str, Any], labels: Path | None, start: Path | None = None, seed: int = 0
) -> Plan:
    """Fix what all sites have to share without any data set: grid, intensities and labels as given, first weights.

    Args:
        bundle: an unpacked copy, whose code builds the network.
        settings: keys of train.json for all sites; `spatial_size`, `pixdim` and `intensity_range` among them, but where
            `start` brings them.
        labels: a JSON file with `labels`, such as the dataset.json of any site.
        start: a model.pt to go on from; None: weights drawn with `seed`.

    Raises:
        InputError: one line for each of these that isn't given, or that is wrong.
    """
    shared, tensors = begin(settings, start)
    problems = [
        f"--set {key}: not given; wanted what the sites have agreed on, such as --set {key}={EXAMPLES[key]}"
        for key in (*GRID, RANGES)
        if optional(shared.get(key)) is None
    ]
    if labels is None:
        problems.append("--labels: not given; wanted a JSON file with `labels`, such as the dataset.json of a site")
    if problems:
        raise InputError(problems)
    parser = open_bundle(Site("all", Path(), bundle=bundle), shared)
    names = read_labels(Path(str(labels)))
    level = agreed_level(
        per_axis("spatial_size", shared["spatial_size"], True) or [],
        per_axis("pixdim", shared["pixdim"]) or [],
        number("divisor", parser["divisor"], whole=True, least=1),
        optional(parser["strides"]),
    )
    given = ranges(RANGES, shared[RANGES])
    grid = make_grid(level.spatial_size, level.pixdim, names, level.strides, None, given or (None,))
    equal = {key: grid.as_dict()[key] for key in GRID} | {RANGES: grid.as_dict().get(RANGES, PERCENTILES)}
    if tensors is None:
        tensors = first_weights(parser, SimpleNamespace(grid=grid, labels=names), seed)
    found = [int(value) for value in tensors["label_values"]]
    if found != list(names):
        raise InputError(f"{labels}: labels has the values {list(names)}; wanted those of {start}, {found}")
    return Plan(shared, equal, names, tensors)
