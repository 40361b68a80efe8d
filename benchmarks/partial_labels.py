"""Masks that tell about a random half of the labels: whole, as `known_labels`, and with what is lacking as background.

    python -m benchmarks.partial_labels --dataset DIR --work W [--labels 4] [--draw 0] [--set epochs=10 ...]

Each row is a run of a bundle by its command with its defaults, but for what `--set` says, on the same labelled cases.
Of each of these a random half of the labels stays, drawn again until every label stays in one case at least. All that
is written, copies of scans too, lies in W. Runs that are done are not run again. Prints Markdown, with the plain UNet
of the same labels beside each.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from common.data.datalist import Datalist, read_datalist
from common.data.selection import few_labeled
from common.launch.words import place
from common.volumes.read import read_volume

from .clinical import RESULT, names, read_json, run_bundle, write_result
from .structures import DICE, answers, by_label, mean_of_cases, overall

WHOLE, KNOWN, BACKGROUND = "whole", "known_labels", "as background"
LISTS = {WHOLE: "dataset.json", KNOWN: "known.json", BACKGROUND: "background.json"}
FOLDER = "halves"


def draw_halves(cases: Sequence[str], values: Sequence[int], seed: int) -> dict[str, list[int]]:
    """Return case -> a random half of the label values, sorted; every value is some case's."""
    random = np.random.default_rng(seed)
    while True:
        drawn = {case: sorted(random.permutation(values)[: -(-len(values) // 2)].tolist()) for case in cases}
        if set().union(*drawn.values()) == set(values):
            return drawn


def write_halves(content: Datalist, labelled: Sequence[Mapping[str, Any]], folder: Path, seed: int) -> None:
    """Write a data set with a datalist for each row: all scans, and the masks of the labelled cases stripped."""
    values = [value for value in content.labels if value]
    halves = draw_halves(names(labelled), values, seed)
    lists: dict[str, dict[str, Any]] = {row: {} for row in LISTS}
    for group in ("training", "test"):
        for row in LISTS:
            lists[row][group] = []
        for case in getattr(content, group):
            entry = {kind: copied(Path(case[kind]), kind, folder) for kind in ("image", "label") if kind in case}
            drawn = halves.get(case["case"]) if group == "training" else None
            if group == "training" and drawn is None:
                entry.pop("label", None)
            half = entry if drawn is None else {**entry, "label": stripped(Path(case["label"]), drawn, folder)}
            lists[WHOLE][group].append(entry)
            lists[BACKGROUND][group].append(half)
            lists[KNOWN][group].append(half if drawn is None else {**half, "known_labels": drawn})
    labels = {str(value): name for value, name in content.labels.items()}
    for row, file in LISTS.items():
        text = json.dumps({**content.other, "name": content.name, "labels": labels, **lists[row]}, indent=1)
        (folder / file).write_text(text, encoding="utf-8")


def copied(path: Path, kind: str, folder: Path) -> str:
    """Copy a file; return its name in the folder."""
    target = folder / f"{kind}s" / path.name
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copyfile(path, target)
    return target.relative_to(folder).as_posix()


def stripped(path: Path, values: Sequence[int], folder: Path) -> str:
    """Write a mask with some of its values alone; return its name in the folder."""
    mask = read_volume(path)
    target = folder / FOLDER / f"{path.name.split('.')[0]}.nii.gz"
    target.parent.mkdir(parents=True, exist_ok=True)
    kept = np.where(np.isin(mask.array, values), mask.array, 0).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(kept, mask.affine), target)
    return target.relative_to(folder).as_posix()


def run(arguments: argparse.Namespace, row: str) -> dict[str, Any]:
    """Return the result of a row; one that is there is read."""
    work = arguments.work / f"{arguments.bundle}_{row.replace(' ', '_')}_draw_{arguments.draw}"
    if not (work / RESULT).is_file():
        given = [f"datalist={LISTS[row]}", "num_labeled=null", f"seed={arguments.draw}", *arguments.set]
        settings = {"dataset": arguments.work / "data", "work": work, "set": given}
        work.mkdir(parents=True, exist_ok=True)
        write_result(work / RESULT, run_bundle(argparse.Namespace(**{**vars(arguments), **settings})))
    return read_json(work / RESULT)


def print_table(results: Mapping[str, Mapping[str, Any]]) -> None:
    """Print a row for each kind of labels and each plain answer, then the Dice of each structure."""
    print("| labels | row | Dice | worst case | HD95 mm | CPU-s |\n|---|---|---|---|---|---|")
    for kind, result in results.items():
        rows = result["rows"]
        for column in answers(rows):
            cells = [f"{overall(rows, column):.3f}", f"{min(mean_of_cases(rows, column).values()):.3f}"]
            own = [f"{overall(rows, 'hd95'):.1f}", f"{result['cpu_seconds']:.0f}"] if column == DICE else ["", ""]
            print("| " + " | ".join([kind, column.replace("_", " "), *cells, *own]) + " |")
    found = {kind: by_label(result["rows"]) for kind, result in results.items()}
    print("\n| structure | " + " | ".join(found) + " |\n" + "|---" * (len(found) + 1) + "|")
    for name in next(iter(found.values())):
        print("| " + " | ".join([name, *(f"{one[name]:.3f}" for one in found.values())]) + " |")


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=place, required=True, help="folder with dataset.json")
    parser.add_argument("--work", type=place, required=True, help="folder of everything that is made")
    parser.add_argument("--bundle", choices=["semisam_plus", "sam_adapters"], default="semisam_plus")
    parser.add_argument("--labels", type=int, default=4, help="number of labelled volumes")
    parser.add_argument("--draw", type=int, default=0, help="seed of the draws, and of the runs")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting that is no default")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args(words)
    arguments.work = Path(arguments.work)
    content = read_datalist(arguments.dataset)
    labelled, _ = few_labeled(content, arguments.labels, arguments.draw)
    write_halves(content, labelled, arguments.work / "data", arguments.draw)
    results = {}
    for row in LISTS:
        results[row] = run(arguments, row)
        print_table(results)


if __name__ == "__main__":
    main()
