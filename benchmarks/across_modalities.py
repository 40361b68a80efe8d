"""One labelled CT, tested on MR: what copies of random contrast and copies of the atlas bring to another modality.

    python -m benchmarks.across_modalities BTCV CHAOS_MR --work DIR --output results.json [--atlas CASE] [--mirrored 1]

Coarse grid alone: RRL-MedSAM's pseudo labels of the CT scans, then one light U-Net a row (`output` general, no SAM),
all from the same registrations and weights. The structures that both data sets have, by their names, are scored on the
voxels of each MR scan, whose labels serve for nothing else, and of the CT set's test scans. Rows that are there already
are not run again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from common.data.datalist import read_datalist
from common.files.atomic_write import write_atomic
from common.grid.native import ToNativeGridd
from common.grid.plan_summary import dice_by_value
from common.grid.preprocessing import ImagePreprocessing, WithLabel
from common.serving.inferers import AffineTTAInferer
from common.tensors import plain
from common.training.checkpoint import seed_epoch

from .one_shot import ROWS, Benchmark
from .resumable import options, read_options, read_results

PLAIN: dict[str, Any] = {"output": "general", "sam": None}
ACROSS: dict[str, dict[str, Any]] = {
    "neither": {},
    "randomised copies": {"randomise": 0.5},
    "mostly randomised copies": {"randomise": 0.8},
    "aligned copies": {"copies": 0.5},
    "both": {"copies": 0.5, "randomise": 0.8},
    "aligned copies alone and randomised": {"copies": 1.0, "randomise": 0.8},
}


class Across(Benchmark):
    """Rows of one CT atlas, from registrations that all of them share."""

    def prepare(self, work: Path) -> None:
        self.overrides |= PLAIN | {"intensity_range": "percentiles"}
        seed_epoch(self.arguments.seed, "build", 0)
        parser = self.parser()
        plan = parser.get_parsed_content("plan")
        self.cohort, self.images, self.labeller = plan.cohort, plan.images, plan.labeller
        self.teacher, self.distillation = plan.teacher, plan.distillation
        self.initial = {k: v.clone() for k, v in self.labeller.network.state_dict().items()}
        self.labeller.resume = True
        if self.arguments.unlabeled:
            self.cohort.images = self.shared.setdefault("chosen", self.choose())
        self.measure("load volumes", plan.load)
        self.measure("affine", plan.align)
        self.folder = self.labeller.work.folder
        stage_1 = self.folder / "stage_1.pt"
        if not stage_1.exists():
            self.measure("register (network)", plan.register.run)
            state = {"network": self.labeller.network, "registration": self.labeller.registration}
            state |= {"distillation": self.distillation}
            torch.save({name: module.state_dict() for name, module in state.items()}, stage_1)
        self.stage_1 = torch.load(stage_1, weights_only=True)
        self.labeller.network.load_state_dict(self.stage_1["network"])
        self.labeller.registration.load_state_dict(self.stage_1["registration"])
        self.measure("register (instance) and label", plan.label)


def pairs(labels: Mapping[int, str], others: Mapping[int, str]) -> dict[int, int]:
    """Return the value in one data set -> that in the other, of all structures of one name."""
    values = {name: value for value, name in others.items()}
    return {value: values[name] for value, name in labels.items() if value and name in values}


@torch.no_grad()
def score(
    network: torch.nn.Module,
    items: Sequence[Mapping[str, Any]],
    values: Sequence[int],
    same: Mapping[int, int],
    mirrored: Sequence[int] = (),
) -> list[dict[str, Any]]:
    """Return the Dice of each structure, by the test set's values, and their mean, of each case.

    Args:
        same: value of a structure for the network -> in the labels.
        mirrored: RAS axes along which the network has learnt from mirrored bodies.
    """
    axes = [2 + axis for axis in mirrored]
    rows = []
    for item in items:
        image = plain(item["image"]).float()[None].flip(axes)
        probabilities = AffineTTAInferer(0)(image, network).exp().flip(axes)[0]
        found = ToNativeGridd("pred", values)({"pred": probabilities, "image": item["image"]})["pred"][0]
        pred = torch.zeros_like(found)
        for own, other in same.items():
            pred[found == own] = other
        truth = plain(item["label"])[0]
        truth = truth * torch.isin(truth, torch.tensor(list(same.values())))
        dice = dice_by_value(truth, pred, sorted(same.values()))
        named = {str(value): found for value, found in dice.items()}
        rows.append({"case": item["case"], "dice": sum(dice.values()) / len(dice), **named})
    return rows


def main() -> None:
    parser = options(__doc__.splitlines()[0], "folder for registrations")
    parser.add_argument("other_dir", help="the data set of the other modality")
    parser.add_argument("--atlas", help="case id; default: the medoid")
    parser.add_argument(
        "--mirrored", type=int, action="append", default=[],
        help="RAS axis along which the headers of the first data set are wrong, so that its bodies are mirrored",
    )  # fmt: skip
    parser.add_argument("--rows", default="", help="comma-separated names; default: all")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--register-steps", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(unlabeled=None, distill_steps=50)
    arguments: argparse.Namespace = read_options(parser)
    results = read_results(arguments, rows={}, costs={})
    ROWS.update({name: ({**PLAIN, **overrides}, 2) for name, overrides in ACROSS.items()})
    benchmark = Across(arguments, arguments.atlas, {})
    results["costs"] |= benchmark.costs
    cohort, values = benchmark.cohort, benchmark.cohort.grid.label_values
    reading = WithLabel(ImagePreprocessing(cohort.grid))
    other = read_datalist(arguments.other_dir, "dataset.json")
    same = pairs(cohort.labels, other.labels)
    tests = {
        "other": ([reading(c) for c in [*other.training, *other.test] if "label" in c], same),
        "own": ([reading(c) for c in cohort.scored], {value: value for value in same}),
    }
    for row in [r for r in (arguments.rows.split(",") if arguments.rows else ACROSS) if r not in results["rows"]]:
        network = benchmark.train(row)
        torch.save(network.state_dict(), Path(arguments.work) / f"{row}.pt")
        results["rows"][row] = {
            name: score(network, items, values, by, arguments.mirrored if name == "other" else ())
            for name, (items, by) in tests.items()
        }
        results["costs"] |= benchmark.costs
        means = {name: sum(s["dice"] for s in scores) / len(scores) for name, scores in results["rows"][row].items()}
        print(f"{row:34s} {means}  {benchmark.costs[row]:.0f} CPU-s", flush=True)
        write_atomic(Path(arguments.output), json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
