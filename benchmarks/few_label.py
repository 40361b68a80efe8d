"""Few labels: base methods with and without generalists, and what they have to beat.

    python -m benchmarks.few_label DATASET_DIR --output results.json --work FOLDER --labels 1 --labels 2 [--draws 3]

All rows of a draw start from the same weights and get the same number of steps with the same labelled volumes; "plain
UNet" learns from these alone, the others see unlabelled ones too. Every row
is scored as it is and "cleaned" (smoothed, largest component of each class): the control without any SAM. Test labels
are used for scoring only. Rows that are there already are not run again, so an interrupted benchmark goes on.
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
from .scoring import native_scores

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "bundles" / "semisam_plus"
sys.path[:0] = [str(BUNDLE)]

from scripts.common.files.atomic_write import write_atomic  # noqa: E402
from scripts.common.imaging.solid import smooth_and_keep_largest  # noqa: E402
from scripts.common.pseudo_labels.opinions import agreement  # noqa: E402
from scripts.common.tensors import plain  # noqa: E402
from scripts.common.training.checkpoint import seed_epoch  # noqa: E402
from scripts.generalists.consultation import combine  # noqa: E402
from scripts.methods.sampling import SAMPLINGS  # noqa: E402

METHODS = ("supervised", "mean_teacher", "ua_mt", "dan", "dtc", "cps", "knowsam")
MOBILE = {"generalist": "mobile_sam", "generalist_image_size": 512}
LITE = {"generalist": "lite_medsam", "generalist_image_size": 128}
BOTH = {"generalist": ["mobile_sam", "lite_medsam"], "generalist_image_size": [512, 128]}
NOBODY = {"generalist": None}
REGISTERED = {"labels_from_registration": True, "registered::resume": True}  # draws are nested: only new pairs are done
TAUGHT = {"self_training": True}
# as configs/knowsam.json has it; no trial: the part of SAM is what is compared
KNOWSAM = {
    "method": "knowsam", "prompt": "learned", "answer_loss": "distillation", "generalist_weight": 0.5,
    "consistency_weight": 0.5, "answer_keep": 1.0, "trial_cases": 0,
}  # fmt: skip
NO_MIXES = {"train::objective::mix_from": 1.0}
# name -> overrides of train.json
PLAIN = "plain UNet"
ROWS: dict[str, dict[str, Any]] = {
    PLAIN: {"method": "supervised", **NOBODY, "unlabeled_batch": 0},
    **{method: {"method": method, **NOBODY} for method in METHODS},
    **{f"{method} + registration": {"method": method, **NOBODY, **REGISTERED} for method in METHODS},
    **{f"{method} + self-training": {"method": method, **NOBODY, **TAUGHT} for method in METHODS},
    **{f"{method} + both pseudo labels": {"method": method, **NOBODY, **REGISTERED, **TAUGHT} for method in METHODS},
    **{f"{method} + mobile_sam": {"method": method, **MOBILE} for method in METHODS},
    **{f"{method} + lite_medsam": {"method": method, **LITE} for method in METHODS},
    **{f"{method} + both": {"method": method, **BOTH} for method in METHODS},
    "knowsam.json": {**KNOWSAM, **MOBILE},
    "knowsam.json, nobody teaches": {**KNOWSAM, **NOBODY},
    "knowsam.json, nobody teaches and no mixes": {**KNOWSAM, **NOBODY, **NO_MIXES},
    **{f"mean_teacher + {kind} contrast": {"method": "mean_teacher", **NOBODY, "contrast": kind} for kind in SAMPLINGS},
}
ALL_LABELS = "all labels"


class Benchmark:
    """All rows of one data set."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.work = arguments, Path(arguments.work)
        parser = self.parser(num_labeled=None, generalist=None)
        cohort = parser.get_parsed_content("cohort")
        transform = parser.get_parsed_content("preprocessing")
        self.label_transform = parser.get_parsed_content("label_preprocessing")
        self.images = {case["case"]: transform({"image": case["image"]})["image"] for case in cohort.cases}
        test = parser.get_parsed_content("validate::dataset")
        self.test = [test[index] for index in range(min(len(test), arguments.test_cases or len(test)))]
        self.training = [case for case in cohort.content.training if "label" in case]
        self.values = cohort.grid.label_values
        self.known: dict[str, Tensor] = {}

    def parser(self, **overrides: Any) -> ConfigParser:
        arguments, row = self.arguments, self.work / "row"
        epochs = arguments.steps // 50
        fixed: dict[str, Any] = {
            "bundle_root": str(BUNDLE), "dataset_dir": arguments.dataset_dir, "output_dir": str(row),
            "ckpt_dir": str(row), "cache_dir": str(self.work), "epochs": epochs, "epoch_length": 50,
            "save_every": 10**6, "labels_from_registration": False, "self_training": False,
            "answer_cases": arguments.answer_cases, "generalist_from": 1 + max(1, epochs // 2),
            "answer_every": max(1, epochs // 4),
        }  # fmt: skip
        return row_parser(BUNDLE, arguments, fixed, overrides)

    def items(self, cohort: Any) -> list[dict[str, Any]]:
        """Return the cases of a draw as the bundle's `images` has them; only labels that count are opened."""
        items = []
        for case in cohort.cases:
            item = {"case": case["case"], "image": self.images[case["case"]]}
            if "label" in case:
                if case["case"] not in self.known:
                    self.known[case["case"]] = self.label_transform({"label": case["label"]})["label"]
                item["label"] = self.known[case["case"]]
            items.append(item)
        return items

    def run(self, overrides: dict[str, Any], num_labeled: int | None, draw: int) -> dict[str, Any]:
        """Train one row and score it."""
        shutil.rmtree(self.work / "row", ignore_errors=True)
        parser = self.parser(**overrides, num_labeled=num_labeled, seed=draw)
        seed_epoch(draw, "build", 0)
        cohort = parser.get_parsed_content("cohort")
        parser["cohort"] = cohort
        parser["images"] = self.items(cohort)
        start = time.process_time()
        plan = parser.get_parsed_content("plan")
        answers = plan.answers
        plan.register()
        registered = time.process_time()
        plan.teach_itself()
        labelled = time.process_time()
        plan.try_generalists()
        plan.embed()
        embedded = time.process_time()
        parser.get_parsed_content("train::trainer").run()
        cost = {
            "registration": registered - start,
            "first network": labelled - registered,
            "embed": embedded - labelled,
            "train": time.process_time() - embedded,
        }
        network = parser.get_parsed_content("network").eval()
        heard = [case for case in answers.answered if answers.judgement(case)["weight"] > 0]
        return {
            "cost": {name: round(seconds, 1) for name, seconds in cost.items()},
            "labeled": [case["case"] for case in cohort.labeled],
            "answers": {"asked": len(answers.answered), "heard": len(heard)},
            "trial": plan.trial.summary(),
            "registered": self.judge(plan.registered),
            "cases": self.score(network, parser.get_parsed_content("inferer"), answers.panel),
        }

    def judge(self, registered: Any) -> dict[str, Any]:
        """Return how good the labels from registration are: their Dice on the grid, of all and of those learnt from."""
        if not registered.on:
            return {}
        truth = {case["case"]: case["label"] for case in self.training if case["case"] in registered.unlabeled}
        found = {}
        for case, path in truth.items():
            if case not in self.known:
                self.known[case] = self.label_transform({"label": path})["label"]
            found[case] = agreement(registered.labels.load(case)["label"], plain(self.known[case]))
        return {"selected": registered.selected, "quality": registered.quality(), "dice": found}

    @torch.no_grad()
    def score(self, network: torch.nn.Module, inferer: Any, panel: Any) -> list[dict[str, Any]]:
        """Score the network on the test cases, as it is and cleaned; on the first ones what generalists make of it."""
        rows = []
        for index, item in enumerate(self.test):
            image = plain(item["image"]).float()
            probabilities = inferer(image[None], network).exp()[0]
            said = {"": probabilities, "cleaned ": smooth_and_keep_largest(probabilities, 0.7)}
            if panel.compared and index < self.arguments.compared_cases:
                embeddings = panel.embed(image)
                for title, (number, generalist) in panel.compared.items():
                    answer = generalist.answer(embeddings[number], probabilities)
                    said[f"{title} "] = combine([answer], probabilities)[0]
            row: dict[str, Any] = {"case": item["case"]}
            for title, label in said.items():
                row |= {f"{title}{key}": value for key, value in native_scores(item, label, self.values).items()}
            rows.append(row)
        return rows


def main() -> None:
    parser = options(__doc__.splitlines()[0], "folder for embeddings and answers")
    parser.add_argument("--labels", type=int, action="append", help="labelled volumes; may be given several times")
    parser.add_argument("--draws", type=int, default=3, help="draws of the labelled volumes, each with its own seed")
    parser.add_argument("--rows", default="", help="names with ; between them; default: all")
    parser.add_argument("--all-labels", action="store_true", help="add the supervised upper bound")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--answer-cases", type=int, default=16, help="unlabelled cases asked about in a round")
    parser.add_argument("--test-cases", type=int, help="default: all")
    parser.add_argument("--compared-cases", type=int, default=4, help="test cases that generalists are asked about")
    parser.add_argument("--settings", default="{}", help="further overrides of train.json, for all rows, as JSON")
    arguments = read_options(parser)
    output = Path(arguments.output)
    results = read_results(arguments, rows=[])
    done = {(row["labels"], row["draw"], row["row"]) for row in results["rows"]}
    benchmark = Benchmark(arguments)
    rows = arguments.rows.split(";") if arguments.rows else list(ROWS)
    counts = arguments.labels or [1, 2, 4, 8]
    wanted: list[tuple] = [(n, draw, row) for draw in range(arguments.draws) for n in counts for row in rows]
    wanted += [(None, 0, ALL_LABELS)] if arguments.all_labels else []
    for labels, draw, name in wanted:
        if (labels, draw, name) in done:
            continue
        overrides = {"method": "supervised", **NOBODY} if name == ALL_LABELS else ROWS[name]
        found = benchmark.run(overrides, labels, draw)
        results["rows"].append({"labels": labels, "draw": draw, "row": name, **found})
        write_atomic(output, json.dumps(results, indent=1))
        dice = {
            key: sum(case[key] for case in found["cases"] if key in case) / sum(key in case for case in found["cases"])
            for key in found["cases"][0]
            if key.endswith("dice")
        }
        shown = "  ".join(f"{key} {value:.4f}" for key, value in dice.items())
        print(f"{labels} labels, draw {draw}, {name:26s} {shown}  {found['answers']} {found['cost']}", flush=True)


if __name__ == "__main__":
    main()
