"""The sites of a federation: a copy of the bundle for each, the plan they share, and what they score."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.utils import set_determinism

from common.errors import InputError, find_input_error
from common.files.tensor_files import atomic_save, load_tensors
from common.grid.grid import read_grid
from common.launch.words import PERCENTILES

from ..unpack import unpack
from .client import SAME_LABELS

GRID = ("spatial_size", "pixdim")
RANGES = "intensity_range"
# of a network's buffers those that say what it sees and answers: no training changes them
FIXED = (*GRID, RANGES, "label_values", "strides", "one_piece", "slice_axis", "sam_channel")


@dataclass
class Site:
    """One site: its name, its data set, its own settings (keys of train.json) and its copy of the bundle."""

    name: str
    dataset_dir: Path
    settings: dict[str, Any] = field(default_factory=dict)
    bundle: Path = Path()
    labeled: bool = True
    scored: bool = True


@dataclass(frozen=True)
class Plan:
    """What must be equal at all sites: settings, the grid, value -> name of the labels; and the first weights."""

    settings: dict[str, Any]
    grid: dict[str, Any]
    labels: dict[int, str]
    weights: dict[str, torch.Tensor]


def unpack_for(sites: list[Site], archive: Path, workspace: Path) -> None:
    """Give every site its own copy of the bundle, `workspace`/sites/<name>/<bundle>.

    Raises:
        InputError: the zip is not sound, or there are copies of an earlier training.
    """
    for site in sites:
        site.bundle, _ = unpack(archive, workspace / "sites" / site.name)


def plan(sites: list[Site], settings: Mapping[str, Any], start: Path | None = None, seed: int = 0) -> Plan:
    """Read the data sets of all sites, as the bundle itself does, and fix what they have to share.

    The grid is that of `start`, else of `settings`, else the one that the first site alone would have. A simulation may
    look at all data; real sites agree on `spatial_size`, `pixdim` and `intensity_range` beforehand.

    Args:
        settings: keys of train.json for all sites.
        start: a model.pt to go on from; None: weights drawn with `seed`.

    Raises:
        InputError: a data set that the bundle refuses, sites whose labels differ, no site with a label.
    """
    shared, tensors = begin(settings, start)
    parser = open_bundle(sites[0], shared)
    cohort = _cohort(parser, sites[0])
    grid = {key: cohort.grid.as_dict()[key] for key in GRID}
    grid[RANGES] = cohort.grid.as_dict().get(RANGES, PERCENTILES)  # each site would measure its own
    problems = []
    for site in sites:
        found = cohort if site is sites[0] else _cohort(_parser(site, shared, grid), site)
        site.labeled, site.scored = bool(getattr(found, "labeled", True)), bool(found.scored)
        if dict(found.labels) != dict(cohort.labels):
            problems.append(
                f"site {site.name} has the labels {dict(found.labels)}; wanted those of site {sites[0].name}, "
                f"{dict(cohort.labels)}, {SAME_LABELS}"
            )
    if not problems and not any(site.labeled for site in sites):
        problems.append(f"none of the sites {', '.join(site.name for site in sites)} has a label; wanted one at least")
    if problems:
        raise InputError(problems)
    weights = first_weights(parser, cohort, seed) if tensors is None else tensors
    return Plan(shared, grid, dict(cohort.labels), weights)


def begin(settings: Mapping[str, Any], start: Path | None) -> tuple[dict[str, Any], dict[str, torch.Tensor] | None]:
    """Return the keys of train.json that all sites share, with the grid of `start`, and its weights, None without."""
    shared = {**settings, "levels": 1}  # one network goes from site to site
    if start is None:
        return shared, None
    tensors = load_tensors(start)
    shared |= {key: [round(float(v), 6) for v in tensors[key]] for key in GRID}
    shared["spatial_size"] = [int(n) for n in shared["spatial_size"]]
    shared[RANGES] = read_grid(str(start), {}).as_dict().get(RANGES, PERCENTILES)
    return shared, {name: tensor.detach().clone() for name, tensor in tensors.items()}


def open_bundle(site: Site, shared: dict[str, Any]) -> ConfigParser:
    """Return train.json of a site's copy with all settings, whose code can be imported from now on.

    A bundle whose sites may lack labels gets `federated`, in `shared` too.
    """
    sys.path.insert(0, str(site.bundle))  # the code of all copies is the same
    parser = _parser(site, shared, {})
    if "federated" in parser:
        shared["federated"] = True  # a site without any label is no mistake
        parser["federated"] = True
    return parser


def first_weights(parser: ConfigParser, cohort: Any, seed: int) -> dict[str, torch.Tensor]:
    """Return weights drawn with `seed`, of the network that the bundle builds for the grid of `cohort`."""
    set_determinism(seed)
    parser["cohort"] = cohort
    tensors = parser.get_parsed_content("network_def").state_dict()
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def train_alone(site: Site, plan: Plan, archive: Path, workspace: Path, epochs: int) -> Path:
    """Train a site's own model, from the same first settings and for as many epochs, and return its model.pt."""
    bundle, _ = unpack(archive, workspace / "alone" / site.name)
    settings = {**plan.settings, **site.settings, **plan.grid, "dataset_dir": str(site.dataset_dir), "epochs": epochs}
    _run(bundle, ["train.json"], settings, workspace / "alone" / f"{site.name}.log")
    return bundle / "models" / "model.pt"


def score(site: Site, plan: Plan, model: Path, output: Path) -> float:
    """Return the mean Dice of a model on a site's scored cases, over cases and labels; NaN where it has none.

    The site's own `evaluate.json` computes it, on the native grid; its metrics.csv stays in `output`.
    """
    if not site.scored:
        return math.nan
    settings = {**plan.settings, **site.settings, "dataset_dir": str(site.dataset_dir)}
    settings |= {"ckpt_path": str(model.absolute()), "output_dir": str(output.absolute())}
    _run(site.bundle, ["train.json", "evaluate.json"], settings, output.with_suffix(".log"))
    rows = json.loads((output / "metrics.json").read_text(encoding="utf-8"))["rows"]
    values = [row["dice"] for row in rows if row["dice"] is not None and not math.isnan(row["dice"])]
    return sum(values) / len(values) if values else math.nan


def write_model(result: Path, plan: Plan, target: Path) -> None:
    """Write the global model that NVFLARE has left as a model.pt that the bundle takes.

    Raises:
        InputError: it has not the names, shapes or grid that the training began with.
    """
    found = load_tensors(result).get("model", {})
    problems = []
    for name, first in plan.weights.items():
        if name not in found or tuple(found[name].shape) != tuple(first.shape):
            problems.append(f"{result}: {name} is missing or of another shape; wanted {tuple(first.shape)}")
        elif name in FIXED and not torch.equal(torch.as_tensor(found[name]).to(first), first):
            problems.append(f"{result}: {name} is {found[name].tolist()}; wanted {first.tolist()}, as at the start")
    if problems:
        raise InputError(problems)
    target.parent.mkdir(parents=True, exist_ok=True)
    atomic_save({name: torch.as_tensor(found[name]).to(first) for name, first in plan.weights.items()}, target)


def _parser(site: Site, settings: Mapping[str, Any], fixed: Mapping[str, Any]) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(str(site.bundle / "configs" / "train.json"))
    for key, value in {**settings, **site.settings, **fixed}.items():
        if key.replace("#", "::") not in parser:
            raise InputError(f"{key}: no such key in train.json of {site.bundle.name}")
        parser[key] = value
    parser["bundle_root"], parser["dataset_dir"] = str(site.bundle), str(site.dataset_dir)
    return parser


def _cohort(parser: ConfigParser, site: Site) -> Any:
    """Return what the bundle makes of a site's data set; InputError with the name of the site where it refuses it."""
    try:
        cohort = parser.get_parsed_content("cohort")
        cohort.check()
        return cohort
    except Exception as error:
        found = find_input_error(error)
        if found is None:
            raise
        raise InputError([f"site {site.name}: {line}" for line in found.problems]) from None


def _run(bundle: Path, configs: list[str], settings: Mapping[str, Any], log: Path) -> None:
    """Run configs of a site's copy in a process of its own; InputError with its last line where that fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    values = {key: "$None" if value is None else value for key, value in settings.items()}
    (log.with_suffix(".json")).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    files = str([f"configs/{name}" for name in configs])
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", files]
    command += ["--args_file", str(log.with_suffix(".json").absolute())]
    with log.open("w", encoding="utf-8") as written:
        done = subprocess.run(command, cwd=bundle, stdout=written, stderr=subprocess.STDOUT, env={**os.environ})
    if done.returncode:
        lines = log.read_text(encoding="utf-8").strip().splitlines() or [""]
        raise InputError(f"{log}: ended with {done.returncode}, {lines[-1]}")
