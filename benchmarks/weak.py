"""Presence bits alone: what each step makes of them, what it has to beat, and what a segmenter learns from it.

    python -m benchmarks.weak DATASET_DIR --datalist SLICES.json --output results.json --work FOLDER [--rows "box,cam"]

`--datalist` is what `python -m tools.slice_labels` has written: training cases with slice_labels and without masks. The
masks of the training cases, to score their pseudo labels, come from `--truth` (default: DATASET_DIR/dataset.json); no
row learns from them but "all labels". A row named in `--segment` also trains the segmenter, which is scored on the test
cases. Rows that are there already are not run again, so an interrupted benchmark goes on.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from torch import Tensor

from .resumable import options, read_options, read_results, row_parser

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "bundles" / "weakmedsam"
sys.path[:0] = [str(BUNDLE)]

from scripts.common.data.datalist import read_datalist  # noqa: E402
from scripts.common.files.atomic_write import write_atomic  # noqa: E402
from scripts.common.grid.to_grid import LabelToGridd  # noqa: E402
from scripts.common.scoring.metrics import case_metrics  # noqa: E402
from scripts.common.tensors import plain  # noqa: E402
from scripts.common.training.checkpoint import seed_epoch  # noqa: E402
from scripts.common.volumes.label import LoadLabelVolumed  # noqa: E402

PLAIN = {"rounds": 0, "walk": "none", "learn_location": False, "walk_passes": 1}
CAM = {"prior": "cam", "subclasses": 1, **PLAIN}
# name -> overrides of train.json; each row names what it adds to the one above
ROWS: dict[str, dict[str, Any]] = {
    "centre": {"prior": "centre", **PLAIN},
    "centre + rounds": {"prior": "centre"},
    "box": {"prior": "box", **PLAIN},
    "box + blur": {"prior": "box", **PLAIN, "walk": "blur"},
    "box + walk": {"prior": "box", **PLAIN, "walk": "intensity"},
    "box + rounds, no learnt location": {"prior": "box", "learn_location": False},
    "box + rounds": {"prior": "box"},
    "linear CAM, as published": {**CAM, "hidden": 0, "map_scope": "slice", "threshold": 0.5},
    "linear CAM": {**CAM, "hidden": 0},
    "CAM": CAM,
    "CAM + SCE": {**CAM, "subclasses": 8},
    "CAM + PAM": {**CAM, "walk": "points", "walk_beta": 32.0, "prompt_grid": 4},
    "CAM + PAM, passes": {**CAM, "walk": "points", "walk_beta": 32.0, "prompt_grid": 4, "walk_passes": 3},
    "CAM + blur": {**CAM, "walk": "blur", "walk_passes": 3},
    "CAM + walk in-plane": {**CAM, "walk": "intensity", "walk_passes": 3, "walk_between": 0},
    "CAM + walk": {**CAM, "walk": "intensity", "walk_passes": 3},
    "CAM + walk + location": {**CAM, "walk": "intensity", "learn_location": True, "walk_passes": 3},
    "CAM + rounds": {"prior": "cam", "subclasses": 1},
}  # fmt: skip
ALL_LABELS = "all labels"


class GivenLabels:
    """Stand for the labeller where the true labels are given: the upper bound."""

    def __init__(self, labels: dict[str, Tensor], classes: int) -> None:
        self.labels, self.classes = labels, classes

    def load(self, case: str) -> dict[str, Tensor]:
        target = torch.nn.functional.one_hot(self.labels[case].long(), self.classes).movedim(-1, 0)
        return {"target": target.float(), "weight": torch.ones(1, *target.shape[1:])}

    def training_indices(self) -> list[int]:
        return list(range(len(self.labels)))


class Benchmark:
    """All rows of one data set."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.work = arguments, Path(arguments.work)
        parser = self.parser(prior="centre")
        self.cohort, self.images = parser.get_parsed_content("cohort"), parser.get_parsed_content("images")
        self.cohort.check()  # before cases are left out: the grid is that of the whole data set
        if arguments.cases:
            self.cohort.cases = self.cohort.cases[: arguments.cases]
        self.images.set_data(self.cohort.cases)
        self.truth = self.read_truth()
        self.classifiers: dict[str, dict[str, Tensor]] = {}
        self.features: Any = None

    def parser(self, **overrides: Any) -> ConfigParser:
        row, arguments = self.work / "row", self.arguments
        fixed: dict[str, Any] = {
            "bundle_root": str(BUNDLE), "dataset_dir": arguments.dataset_dir, "datalist": arguments.datalist,
            "output_dir": str(row), "ckpt_dir": str(row), "cache_dir": str(row), "seed": arguments.seed,
            "save_every": 10**6, "features::folder": str(self.work / "sam"),
        }  # fmt: skip
        return row_parser(BUNDLE, arguments, fixed, overrides)

    def read_truth(self) -> dict[str, Tensor]:
        """Return the true label map [H, W, D] of each training case on the grid, by class; for scoring only."""
        from monai import transforms as t

        masked = read_datalist(self.arguments.dataset_dir, self.arguments.truth).training
        known = {case["case"]: case for case in masked}
        transform = t.Compose([
            LoadLabelVolumed("label"),
            t.Orientationd("label", "RAS", labels=None),
            LabelToGridd("label", self.cohort.grid),
        ])  # fmt: skip
        cases = [case["case"] for case in self.cohort.cases]
        return {case: plain(transform({"label": known[case]["label"]})["label"]).argmax(0) for case in cases}

    def run(self, name: str, segment: bool) -> dict[str, Any]:
        """Make the pseudo labels of a row, score them, and where wanted train and score a segmenter."""
        shutil.rmtree(self.work / "row", ignore_errors=True)
        seed_epoch(self.arguments.seed, "build", 0)
        parser = self.parser(**ROWS.get(name, {"prior": "centre"}))
        parser["cohort"], parser["images"] = self.cohort, self.images
        cost: dict[str, float] = {}
        result: dict[str, Any] = {"row": name, "cost": cost}
        start = time.process_time()
        if name == ALL_LABELS:
            parser["labeller"] = GivenLabels(self.truth, len(self.cohort.labels))
            parser["validate::compared::labeller"] = None  # there is no prior to stand beside it
        else:
            labeller = parser.get_parsed_content("labeller")
            draw_anew()
            plan = parser.get_parsed_content("plan")
            plan.encode()
            cost["features"], start = time.process_time() - start, time.process_time()
            if labeller.needs_classifier:
                self.classify(parser, plan)
            cost["classify"], start = time.process_time() - start, time.process_time()
            plan.make_priors()
            plan.learn_appearance()
            plan.make_labels()
            cost["label"], start = time.process_time() - start, time.process_time()
            result["cases"] = [self.score(case, labeller.load(case)["target"].argmax(0)) for case in self.truth]
        if segment:
            start = time.process_time()
            labels = parser.get_parsed_content("labeller")
            draw_anew()
            trainer = parser.get_parsed_content("train::trainer")
            trainer.data_loader.sampler.subset = labels.training_indices()
            trainer.run()
            cost["segment"] = time.process_time() - start
            parser.get_parsed_content("network").eval()
            parser.get_parsed_content("validate::evaluator").run()
            result["test"] = parser.get_parsed_content("validate::metrics").table.rows
        result["cost"] = {key: round(seconds, 1) for key, seconds in cost.items()}
        return result

    def classify(self, parser: ConfigParser, plan: Any) -> None:
        """Train the classifier, once for all rows with the same settings of it."""
        names = ("backbone", "backbone_image_size", "feature_kind", "context", "subclasses", "hidden", "pooling")
        key = json.dumps([parser.get(name) for name in names])
        classifier = plan.labeller.classifier
        if key not in self.classifiers:
            plan.learn_to_classify()
            self.classifiers[key] = {name: value.clone() for name, value in classifier.state_dict().items()}
        classifier.load_state_dict(self.classifiers[key])

    def score(self, case: str, found: Tensor) -> dict[str, Any]:
        """Return Dice and HD95 (mm) of each label of a pseudo label on the common grid."""
        values = list(range(len(self.cohort.labels)))
        scores = case_metrics(found, self.truth[case], self.cohort.grid.pixdim, values)
        return {"case": case, **{str(v): {key: s[key] for key in ("dice", "hd95")} for v, s in scores.items()}}


def main() -> None:
    parser = options(__doc__.splitlines()[0], "folder for features and a row's files")
    parser.add_argument("--datalist", required=True, help="with slice_labels, of tools.slice_labels")
    parser.add_argument("--truth", default="dataset.json", help="datalist with the training masks, for scoring")
    parser.add_argument("--rows", default="", help="comma-separated names (';' where a name has a comma); default: all")
    parser.add_argument("--segment", default="", help="rows that also train the segmenter")
    parser.add_argument("--cases", type=int, help="the first training cases only")
    parser.add_argument("--settings", default="{}", help="JSON: overrides of train.json for all rows")
    parser.add_argument("--seed", type=int, default=0)
    arguments = read_options(parser)
    output = Path(arguments.output)
    results = read_results(arguments, rows=[])
    benchmark = Benchmark(arguments)
    results["share"] = benchmark.cohort.describe_share()
    segment = split(arguments.segment)
    for name in split(arguments.rows) or [*ROWS, ALL_LABELS]:
        done = [row for row in results["rows"] if row["row"] == name]
        if done and ("test" in done[0] or name not in segment):
            continue
        row = benchmark.run(name, name in segment or name == ALL_LABELS)
        results["rows"] = [other for other in results["rows"] if other["row"] != name] + [row]
        write_atomic(output, json.dumps(results, indent=1))
        print(name, summary(row), row["cost"], flush=True)


def draw_anew() -> None:
    """Let the weights that are built next hang on the last seed alone, and not on what was built since in this row."""
    torch.manual_seed(torch.initial_seed())


def split(names: str) -> list[str]:
    """Return the names of a list; ';' parts them where there is one."""
    return [name.strip() for name in names.split(";" if ";" in names else ",") if name.strip()]


def summary(row: dict[str, Any]) -> str:
    """Return mean (and least) Dice of each label: of the pseudo labels, and of the segmenter on the test cases."""
    parts = []
    if "cases" in row:
        labels = [key for key in row["cases"][0] if key != "case"]
        found = {label: [case[label]["dice"] for case in row["cases"]] for label in labels}
        parts.append("labels " + ", ".join(f"{sum(d) / len(d):.3f} ({min(d):.2f})" for d in found.values()))
    if "test" in row:
        by_label: dict[str, list[float]] = {}
        for scored in row["test"]:
            by_label.setdefault(str(scored["label"]), []).append(scored["dice"])
        parts.append("test " + ", ".join(f"{sum(d) / len(d):.3f} ({min(d):.2f})" for d in by_label.values()))
    return "; ".join(parts)


if __name__ == "__main__":
    main()
