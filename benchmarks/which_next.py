"""Which scan to label next: a loop of annotation, with the label that is there given only once its scan is chosen.

    python -m benchmarks.which_next DATASET_DIR --output results.json --work FOLDER [--rounds 5] [--draws 3] [--alone]

All begin with the scan that is most like all others, by the same distances. Each round SemiSAM+'s specialist learns,
alone and for few steps, from the scans chosen so far; it is scored on the test cases, predicts all training scans with
a second look, and the next scan is chosen: by (1 - predicted Dice) times distance, as `tools.propose_volumes --next`
does, by either of the two alone, or drawn. The same labels are learnt from once, whoever chose them; what is done is
not done again. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data.utils import affine_to_spacing

from common.atlas.choosing.next_scan import choose_next, predicted_quality, scan_distances
from common.atlas.choosing.reach import ScanReach
from common.files.atomic_write import write_atomic
from common.review.features import label_features
from common.review.second_view import ReviewedInferer, take_second_view
from common.tensors import plain
from common.training.checkpoint import seed_epoch

from .few_label import NOBODY, Benchmark
from .resumable import options, read_options, read_results

SHORT = {"method": "supervised", **NOBODY, "unlabeled_batch": 0, "levels": 1}
BOTH, QUALITY, DISTANCE, DRAWN = "both", "predicted Dice alone", "distance alone", "drawn"


class Annotation(Benchmark):
    """The loop on one data set."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        super().__init__(arguments)
        self.results = read_results(arguments, scans={}, runs={})
        if not self.results["scans"]:
            self.results["scans"] = self.look_at_scans()
            self.save()
        scans = self.results["scans"]
        self.start, self.ids, self.distances = scans["start"], scans["ids"], np.array(scans["distances"])

    def look_at_scans(self) -> dict[str, Any]:
        """Return the first scan to label, all ids and how unlike any two scans are, by the images alone."""
        images = [{"case": case, "image": image} for case, image in self.images.items()]
        ids, distances = scan_distances(ScanReach(images))
        start = self.arguments.start or ids[int(distances.mean(axis=0).argmin())]
        return {"start": start, "ids": ids, "distances": np.round(distances, 6).tolist()}

    def save(self) -> None:
        write_atomic(Path(self.arguments.output), json.dumps(self.results, indent=1))

    def learn(self, labelled: Sequence[str]) -> dict[str, Any]:
        """Return test Dice, and the Dice that each training scan probably has, of a network that learnt from these."""
        key = ",".join(sorted(labelled))
        if key not in self.results["runs"]:
            parser = self.parser(**SHORT, labeled=sorted(labelled), seed=0)
            seed_epoch(0, "build", 0)
            cohort = parser.get_parsed_content("cohort")
            parser["cohort"], parser["images"] = cohort, self.items(cohort)
            panel = parser.get_parsed_content("plan").answers.panel
            parser.get_parsed_content("train::trainer").run()
            network, inferer = parser.get_parsed_content("network").eval(), parser.get_parsed_content("inferer")
            dice = {row["case"]: row["dice"] for row in self.score(network, inferer, panel)}
            self.results["runs"][key] = {"dice": dice, "predicted": self.predict(network, inferer)}
            self.save()
        found: dict[str, Any] = self.results["runs"][key]
        return found

    @torch.no_grad()
    def predict(self, network: torch.nn.Module, inferer: Any) -> dict[str, float]:
        """Return the predicted quality of each training scan; no label of theirs is opened."""
        found = {}
        for case, image in self.images.items():
            probabilities = ReviewedInferer(inferer)(plain(image).float()[None], network).exp()[0]
            spacing = [float(p) for p in affine_to_spacing(image.affine, r=3)]
            features = label_features(probabilities, spacing, take_second_view(probabilities.shape[1:]))
            found[case] = predicted_quality({"predicted_dice": one.score, **one.as_dict()} for one in features)
        return found

    def next_scan(self, way: str, predicted: Mapping[str, float], labelled: Sequence[str]) -> str:
        """Return the scan that is labelled next."""
        if way.startswith(DRAWN):
            return draw_order(self.ids, self.start, int(way.split()[-1]))[len(labelled) - 1]
        rest = {case: 0.0 if way == DISTANCE else dice for case, dice in predicted.items() if case not in labelled}
        seen = np.ones_like(self.distances) if way == QUALITY else self.distances
        return choose_next(rest, self.ids, seen, labelled)[0].case

    def loop(self, way: str) -> list[float]:
        """Return the mean test Dice after each round; the first is that of the first scan alone."""
        labelled, dice = [self.start], []
        for _ in range(self.arguments.rounds + 1):
            found = self.learn(labelled)
            dice.append(float(np.mean(list(found["dice"].values()))))
            labelled = [*labelled, self.next_scan(way, found["predicted"], labelled)]
            print(f"{way}: {len(labelled) - 1} labels, Dice {dice[-1]:.4f}; then {labelled[-1]}", flush=True)
        return dice


def draw_order(cases: Sequence[str], start: str, seed: int) -> list[str]:
    """Return all cases but the first one in an order that depends on the ids and the seed alone."""
    rest = sorted(set(cases) - {start})
    return [rest[number] for number in np.random.default_rng(seed).permutation(len(rest))]


def print_table(results: Mapping[str, Sequence[float]]) -> None:
    """Print a row for each way, the mean of the drawn ones, and in how many rounds of draws a way is above."""
    rounds = len(next(iter(results.values())))
    print("| chosen by | " + " | ".join(f"{number + 1}" for number in range(rounds)) + " | mean from 2 |")
    print("|---" * (rounds + 2) + "|")
    drawn = [found for way, found in results.items() if way.startswith(DRAWN)]
    rows = dict(results) | ({f"{DRAWN}, mean of {len(drawn)}": np.mean(drawn, axis=0).tolist()} if drawn else {})
    for way, found in rows.items():
        cells = [*found, float(np.mean(found[1:]))]
        print("| " + " | ".join([way, *(f"{dice:.3f}" for dice in cells)]) + " |")
    for way, found in results.items():
        if drawn and not way.startswith(DRAWN):
            above = sum(own > other for one in drawn for own, other in zip(found[1:], one[1:], strict=True))
            print(f"\n* {way}: above {above} of {len(drawn) * (rounds - 1)} draws and rounds", end="")
    print()


def main() -> None:
    parser = options(__doc__.splitlines()[0], "folder of the runs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--draws", type=int, default=3, help="loops in which scans are drawn")
    parser.add_argument("--start", help="id of the first scan; default: the one that is most like all others")
    parser.add_argument("--alone", action="store_true", help="either part of the choice alone, too")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--settings", default="{}", help="further overrides of train.json, as JSON")
    parser.set_defaults(answer_cases=None, test_cases=None, compared_cases=0)
    arguments = read_options(parser)
    annotation = Annotation(arguments)
    ways = [BOTH, *(f"{DRAWN} {seed}" for seed in range(arguments.draws))]
    results: dict[str, list[float]] = {}
    for way in [*ways, *([QUALITY, DISTANCE] if arguments.alone else [])]:
        results[way] = annotation.loop(way)
        print_table(results)


if __name__ == "__main__":
    main()
