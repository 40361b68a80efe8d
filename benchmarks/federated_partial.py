"""Two sites of which each tells about some structures alone, with voxels of their own: together, and each for itself.

    python -m benchmarks.federated_partial --python PYTHON_WITH_NVFLARE --work W [--seed 0] [--rounds 6]

Of the sample cohort, in halves that share no case, the masks of north tell about liver, portal vessel and stomach,
those of south about stomach, spleen and kidney, whose slices are twice as thick; test masks tell about all. The bundle
is semisam_plus as in the tables of docs/federated.md. Prints Markdown: Dice of each structure over both sites' test
cases.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from common.data.sample import make_sample_cohort
from common.launch.words import place
from common.volumes.read import read_volume
from tools.pack import pack

from .structures import by_label

BUNDLE = "semisam_plus"
SIZE = (44, 38, 34)
KNOWN = {"north": (1, 2, 3), "south": (3, 4, 5)}
THICK = {"north": 1, "south": 2}
SETTINGS = {
    "channels": [8, 16, 32],
    "strides": [2, 2],
    "max_voxels": 16384,
    "epoch_length": 10,
    "learning_rate": 0.003,
    "num_labeled": 2,
    "generalist": None,
    "labels_from_registration": False,
    "device": "cpu",
}


def write_site(whole: Path, content: Mapping[str, Any], first: int, name: str, folder: Path) -> Path:
    """Write every second case as a data set: images with thick slices, training masks of `KNOWN` structures alone."""
    lists: dict[str, list[dict[str, Any]]] = {"training": [], "test": []}
    for group, entries in lists.items():
        for case in content[group][first::2]:
            kept = {kind: case[kind] for kind in ("image", "label")}
            for kind, file in kept.items():
                volume = read_volume(whole / file)
                array = volume.array
                if kind == "label" and group == "training":
                    array = np.where(np.isin(array, KNOWN[name]), array, 0)
                write_thick(array, volume.affine, THICK[name], folder / file)
            entries.append({**kept, "known_labels": list(KNOWN[name])} if group == "training" else kept)
    labels = {"name": name, "modality": content["modality"], "labels": content["labels"]}
    (folder / "dataset.json").write_text(json.dumps({**labels, **lists}, indent=1), encoding="utf-8")
    return folder


def write_thick(array: np.ndarray, affine: np.ndarray, times: int, file: Path) -> None:
    """Write a volume that keeps one axial slice of `times`."""
    axis = int(np.flatnonzero(nibabel.io_orientation(affine)[:, 0] == 2)[0])
    step = np.ones(4)
    step[axis] = times
    file.parent.mkdir(parents=True, exist_ok=True)
    kept = np.take(array, range(0, array.shape[axis], times), axis)
    nibabel.save(nibabel.Nifti1Image(kept, affine @ np.diag(step)), file)


def federate(python: Path, work: Path, sites: Mapping[str, Path], arguments: argparse.Namespace) -> Path:
    """Pack the bundle and simulate the federation by its command; return the folder of its results."""
    if not (work / "federation" / "results.json").is_file():
        pack(Path("bundles") / BUNDLE, work, None)
        command = [python, "-m", "tools.federated_job", "--bundle", next(work.glob(f"{BUNDLE}_v*.zip"))]
        command += ["--workspace", work / "federation", "--rounds", arguments.rounds, "--local-epochs", 2]
        command += ["--seed", arguments.seed, "--compare-own", "--set", f"seed={arguments.seed}"]
        for name, folder in sites.items():
            command += ["--site", f"{name}={folder}"]
        for key, value in SETTINGS.items():
            command += ["--set", f"{key}={json.dumps(value)}"]
        subprocess.run([str(word) for word in command], check=True)
    return work / "federation"


def print_table(results: Path) -> None:
    """Print the Dice of each model, by structure, over the test cases of both sites."""
    found = {}
    for model in ("all sites", *(f"{name} alone" for name in KNOWN)):
        rows = []
        for name in KNOWN:
            file = results / "scores" / f"{model.replace(' ', '_')}_at_{name}" / "metrics.json"
            rows += json.loads(file.read_text(encoding="utf-8"))["rows"]
        found[model] = by_label(rows)
    structures = list(next(iter(found.values())))
    print("| model | " + " | ".join(structures) + " | mean |\n" + "|---" * (len(structures) + 2) + "|")
    for model, dice in found.items():
        cells = [f"{dice[name]:.3f}" for name in structures]
        print("| " + " | ".join([model, *cells, f"{np.mean(list(dice.values())):.3f}"]) + " |")


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", type=place, required=True, help="of an environment with NVFLARE")
    parser.add_argument("--work", type=place, required=True, help="folder of everything that is made")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=6)
    arguments = parser.parse_args(words)
    work = Path(arguments.work).absolute()
    whole = make_sample_cohort(work / "whole", arguments.seed, 12, 0, 6, SIZE)
    content = json.loads((whole / "dataset.json").read_text(encoding="utf-8"))
    sites = {name: write_site(whole, content, first, name, work / name) for first, name in enumerate(KNOWN)}
    print_table(federate(arguments.python.absolute(), work, sites, arguments))


if __name__ == "__main__":
    main()
