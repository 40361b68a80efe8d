"""One atlas's label on the test scans by registration alone: ours, and packages of others beside it.

    python -m benchmarks.registration_peers DATASET_DIR --output results.json --work WORK --environment PEERS_VENV \
        --atlas CASE [--atlas CASE ...] [--cases 10] [--rows "ours,Greedy"]

All rows see the same images on the bundle's common grid and are scored on the voxels of each scan, by labels that serve
for nothing else. A peer uses its own affine and its own default settings, or starts from our affine. Peers are no
requirement of ours: they lie in an environment of their own, and a row whose package isn't there is skipped. What is in
the results is not run again. In the end comes a table, over the pairs that all its rows have.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from common.atlas.atlas import Atlas
from common.errors import InputError
from common.files.atomic_write import write_atomic
from common.tensors import plain

from .registration.pair import Pair
from .registration.peers import PEERS, Environment
from .resumable import options, read_options, read_results, row_parser
from .scoring import native_scores
from .tables import Row, against_control, by_part, least, markdown, mean

BUNDLE = Path(__file__).resolve().parents[1] / "bundles" / "rrl_medsam"
sys.path[:0] = [str(BUNDLE)]
AFFINE, OURS = "our affine alone", "ours"
ROWS = (AFFINE, OURS, *PEERS)
COLUMNS = {
    "Dice by atlas": by_part,
    "Dice": mean("dice", 3),
    "min": least("dice"),
    "HD95 mm": mean("hd95", 1),
    "against ours: Dice, better on, p": against_control("dice"),
    "CPU-s a pair": mean("cpu_seconds", 1),
}


class Benchmark:
    """All rows over the pairs of some atlases and test scans.

    Args:
        arguments: of the command line.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        work = str(arguments.work)
        fixed = {"bundle_root": str(BUNDLE), "dataset_dir": arguments.dataset_dir, "atlas": ",".join(arguments.atlas)}
        fixed |= {"output_dir": work, "ckpt_dir": work, "cache_dir": work}
        parser = row_parser(BUNDLE, arguments, fixed, {})
        self.arguments, self.cohort = arguments, parser.get_parsed_content("cohort")
        self.atlases = self.read_atlases(parser)
        tests = parser.get_parsed_content("validate::dataset")
        self.tests = [tests[index] for index in range(min(len(tests), arguments.cases or len(tests)))]
        folder = None if arguments.environment is None else Path(arguments.environment)
        self.environment = Environment(folder, Path(arguments.work))
        self.skipped: set[str] = set()

    def read_atlases(self, parser: ConfigParser) -> list[Atlas]:
        """Return the named atlases, on the grid."""
        image, label = (parser.get_parsed_content(name) for name in ("preprocessing", "labeller::label_transform"))
        return [
            Atlas(
                case["case"],
                plain(image({"image": case["image"]})["image"]).float()[None],
                plain(label({"label": case["label"]})["label"]).float()[None],
            )
            for case in self.cohort.atlases
        ]

    def run(self, rows: Sequence[str], results: dict[str, Any]) -> None:
        """Fill what is missing, pair by pair, and write the results after each."""
        for atlas in self.atlases:
            for item in self.tests:
                pair = Pair(atlas, item)
                for name in rows:
                    found = results["atlases"].setdefault(atlas.case, {}).setdefault(name, [])
                    if name in self.skipped or item["case"] in [score["case"] for score in found]:
                        continue
                    score = self.score(name, pair)
                    if score is None:
                        continue
                    found.append(score)
                    write_atomic(Path(self.arguments.output), json.dumps(results, indent=1) + "\n")
                    said = f"Dice {score['dice']:.3f}, {score['cpu_seconds']:.1f} CPU-s"
                    print(f"{atlas.case} to {item['case']}: {name}: {said}", flush=True)

    def score(self, name: str, pair: Pair) -> dict[str, Any] | None:
        """Return a row's score of a pair; None, and a line, where the row can't be had: it isn't tried again."""
        try:
            label, spent = self.label(name, pair)
        except InputError as error:
            self.skipped.add(name)
            print(error, flush=True)
            return None
        scores = native_scores(pair.item, label, self.cohort.grid.label_values, ("dice", "hd95", "assd"))
        return {"case": pair.item["case"], **scores, "cpu_seconds": round(spent, 2)}

    def label(self, name: str, pair: Pair) -> tuple[torch.Tensor, float]:
        """Return the label [K, H, W, D] that a row gives a pair's scan, and the CPU seconds."""
        if name in (AFFINE, OURS):
            return pair.propagated() if name == OURS else pair.aligned()
        missing = self.environment.missing(name)
        if missing is not None:
            raise InputError(missing)
        return self.environment.propagated(name, pair, list(self.cohort.grid.pixdim))


def table(results: dict[str, Any], wanted: Sequence[str] = ROWS) -> list[str]:
    """Return the lines of a table over the pairs that all rows have which have any; p is of the test against ours."""
    atlases = results["atlases"]
    names = [name for name in wanted if any(rows.get(name) for rows in atlases.values())]
    scores: dict[str, dict[Any, Sequence[Mapping[str, Any]]]] = {name: {} for name in names}
    for atlas, rows in atlases.items():
        by_name = {name: {score["case"]: score for score in rows.get(name, [])} for name in names}
        shared = sorted(set.intersection(*(set(found) for found in by_name.values()))) if names else []
        for name in names if shared else []:
            scores[name][atlas] = [by_name[name][case] for case in shared]
    ours = Row(scores[OURS]) if OURS in names else None
    rows_of = {name: Row(scores[name], control=ours if name != OURS else None) for name in names if scores[name]}
    count = sum(len(found) for found in next(iter(rows_of.values())).scores.values()) if rows_of else 0
    return [f"{count} pairs", "", *(markdown("", COLUMNS, rows_of) if count else [])]


def main() -> None:
    parser = options(__doc__.splitlines()[0], "folder for the files of a pair and the peers' logs")
    parser.add_argument("--atlas", action="append", required=True, help="case id; may be given several times")
    parser.add_argument("--environment", type=os.path.expanduser, help="virtual environment with the peers")
    parser.add_argument("--cases", type=int, help="so many test scans, the first ones; default: all")
    parser.add_argument("--rows", default=",".join(ROWS), help="comma-separated names; default: all")
    parser.add_argument("--settings", default="{}", help="further overrides of train.json, as JSON")
    arguments = read_options(parser)
    rows = [name.strip() for name in arguments.rows.split(",")]
    unknown = [name for name in rows if name not in ROWS]
    if unknown:
        parser.error(f"--rows: found {', '.join(unknown)}; wanted some of {', '.join(ROWS)}")
    results = read_results(arguments, atlases={})
    Benchmark(arguments).run(rows, results)
    print("\n".join(table(results, rows)))


if __name__ == "__main__":
    main()
