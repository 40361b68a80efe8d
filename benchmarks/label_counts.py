"""The two bundles that learn from whole labels beside each other: equal draws of 1, 2, 4, 8 labelled volumes.

    python -m benchmarks.label_counts --dataset DIR --work W [--draw 0] [--set rrl_medsam:epochs=10 ...]

Each row is a run of a bundle by its command with its defaults, but for what `--set` says, on the same labelled cases:
`semisam_plus` has them as `labeled`, `rrl_medsam` as its atlases; all other cases are unlabelled to both. Draws are
nested. Runs that are done are not run again. Prints Markdown, with each bundle's plain answers beside its own.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.data.datalist import read_datalist
from common.data.selection import few_labeled
from common.launch.words import place

from .clinical import RESULT, names, read_json, run_bundle, write_result
from .structures import DICE, answers, mean_of_cases, overall

BUNDLES = {"semisam_plus": "labeled", "rrl_medsam": "atlas"}  # and the setting that names the labelled cases


def run(arguments: argparse.Namespace, bundle: str, count: int) -> dict[str, Any]:
    """Return the result of a bundle with so many labels; one that is there is read."""
    work = arguments.work / f"{bundle}_{count}_draw_{arguments.draw}"
    if not (work / RESULT).is_file():
        listed = dict(word.split("=", 1) for word in of_bundle(arguments.set, bundle)).get("datalist", "dataset.json")
        drawn, _ = few_labeled(read_datalist(arguments.dataset, listed), count, arguments.draw)
        given = [f"{BUNDLES[bundle]}={','.join(names(drawn))}", f"seed={arguments.draw}"]
        settings = {"bundle": bundle, "work": work, "set": [*given, *of_bundle(arguments.set, bundle)]}
        work.mkdir(parents=True, exist_ok=True)
        write_result(work / RESULT, run_bundle(argparse.Namespace(**{**vars(arguments), **settings})))
    return read_json(work / RESULT)


def of_bundle(settings: Sequence[str], bundle: str) -> list[str]:
    """Return what of BUNDLE:KEY=VALUE, or KEY=VALUE for both, is said to a bundle."""
    found = []
    for word in settings:
        name, _, rest = word.partition(":")
        if name == bundle or name not in BUNDLES:
            found.append(rest if name == bundle else word)
    return found


def print_table(results: Mapping[int, Mapping[str, Mapping[str, Any]]]) -> None:
    """Print a row for each number of labels and bundle, and for each plain answer beside it."""
    print("| labels | row | Dice | worst case | HD95 mm | CPU-s |\n|---|---|---|---|---|---|")
    for count, found in results.items():
        for bundle, result in found.items():
            rows = result["rows"]
            for column in answers(rows):
                name = f"**{bundle}**" if column == DICE else f"{bundle}: {column.replace('_', ' ')}"
                cells = [f"{overall(rows, column):.3f}", f"{min(mean_of_cases(rows, column).values()):.3f}"]
                own = [f"{overall(rows, 'hd95'):.1f}", f"{result['cpu_seconds']:.0f}"] if column == DICE else ["", ""]
                print("| " + " | ".join([str(count), name, *cells, *own]) + " |")


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=place, required=True, help="folder with dataset.json")
    parser.add_argument("--work", type=place, required=True, help="folder of everything that is made")
    parser.add_argument("--labels", default="1,2,4,8", help="numbers of labelled volumes")
    parser.add_argument("--draw", type=int, default=0, help="seed of the draw, and of the runs")
    parser.add_argument(
        "--set", action="append", default=[], metavar="[BUNDLE:]KEY=VALUE", help="a setting that is no default"
    )
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args(words)
    arguments.work = Path(arguments.work)
    counts = [int(count) for count in arguments.labels.split(",")]
    results: dict[int, dict[str, dict[str, Any]]] = {}
    for count in counts:
        results[count] = {bundle: run(arguments, bundle, count) for bundle in BUNDLES}
        print_table(results)


if __name__ == "__main__":
    main()
