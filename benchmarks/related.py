"""The related methods: each part behind a frozen SAM with and without, and what a UNet makes of the same labels.

    python -m benchmarks.related DATASET_DIR --output results.json --work FOLDER --labels 1 --labels 4 --draws 3

Every row trains what stands behind the encoder for the same steps on the same labelled volumes and their same changed
copies, whose features are encoded once, and is scored as the SAM with its parts, slice by slice. "3D UNet" is the
bundle's light network, taught by the labelled volumes alone by its own schedule; a row with "taught" is the light
network of the row before, which has learnt from labels and that row's masks of the unlabelled volumes. Rows that are
there already are not run again, so an interrupted benchmark goes on.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from torch import Tensor, nn

from .resumable import options, read_options, read_results, row_parser
from .scoring import native_scores

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "bundles" / "sam_adapters"
sys.path[:0] = [str(BUNDLE)]

from scripts.common.files.atomic_write import write_atomic  # noqa: E402
from scripts.common.tensors import plain  # noqa: E402
from scripts.common.training.checkpoint import seed_epoch  # noqa: E402

UNET, TAUGHT = "3D UNet", ", taught"
ALONE: dict[str, Any] = {"depth": None, "dice_weight": 0.8}  # every slice by itself
PROMPTED: dict[str, Any] = {**ALONE, "decoder": "sam"}
CPC_SAM: dict[str, Any] = {**ALONE, "decoder": "tokens", "decoders": 2, "cross_prompting": True}
# name -> overrides of train.json; the name of what a row is tested against stands behind it
ROWS: dict[str, tuple[dict[str, Any], str | None]] = {
    "tokens": ({**ALONE, "decoder": "tokens"}, None),
    "full": ({**ALONE, "decoder": "full"}, "tokens"),
    "h_sam": ({**ALONE, "decoder": "hierarchical"}, "tokens"),
    "ma_sam": ({**ALONE, "decoder": "full", "depth": "slab"}, "full"),
    "adapter_3d": ({**ALONE, "decoder": "full", "depth": "slab3d"}, "full"),
    "depth attention": ({**ALONE, "decoder": "full", "depth": "attention"}, "full"),
    "db_sam": ({**ALONE, "decoder": "full", "side_branch": True}, "full"),
    "auto_sam": ({**ALONE, "decoder": "frozen", "prompts": "dense"}, "tokens"),
    "esp_medsam": ({**PROMPTED, "prompts": "patch_map"}, "tokens"),
    "self_prompt_sam": ({**PROMPTED, "prompts": "self", "depth": "slab"}, "tokens"),
    "self_prompt_sam, box": ({**PROMPTED, "prompts": "self", "self_prompt": "box", "depth": "slab"}, "self_prompt_sam"),
    "two decoders alone": ({**ALONE, "decoder": "tokens", "decoders": 2}, "tokens"),
    "cpc_sam": ({**CPC_SAM}, "two decoders alone"),
    "cpc_sam without prompt consistency": ({**CPC_SAM, "prompt_consistency": 0}, "cpc_sam"),
    "ma_sam + db_sam": ({**ALONE, "decoder": "full", "depth": "slab", "side_branch": True}, "ma_sam"),
}


class Benchmark:
    """All rows of one data set."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.work = arguments, Path(arguments.work)
        parser = self.parser(num_labeled=1)
        self.values = parser.get_parsed_content("cohort").grid.label_values
        test = parser.get_parsed_content("validate::dataset")
        self.test = [test[index] for index in range(min(len(test), arguments.test_cases or len(test)))]
        self.preprocessing = parser.get_parsed_content("slice_preprocessing")

    def parser(self, **overrides: Any) -> ConfigParser:
        row, arguments = self.work / "row", self.arguments
        fixed: dict[str, Any] = {
            "bundle_root": str(BUNDLE), "dataset_dir": arguments.dataset_dir, "levels": 1, "output_dir": str(row),
            "ckpt_dir": str(row), "cache_dir": str(self.work), "labeller::folder": str(row / "labels"),
            "save_every": 10**6, "plain_control": True,
        }  # fmt: skip
        return row_parser(BUNDLE, arguments, fixed, overrides)

    def run(self, name: str, labels: int | None, draw: int) -> dict[str, Any]:
        """Train a row and score it."""
        shutil.rmtree(self.work / "row", ignore_errors=True)
        form = name.removesuffix(TAUGHT)
        seed_epoch(draw, "build", 0)
        parser = self.parser(num_labeled=labels, seed=draw, **(ROWS[form][0] if form in ROWS else {}))
        plan = parser.get_parsed_content("plan")
        plan.cohort.check()
        plan.load()
        result: dict[str, Any] = {"row": name, "labels": labels, "draw": draw}
        result["labeled"] = [case["case"] for case in plan.cohort.labeled]
        result["against"] = UNET if name.endswith(TAUGHT) else ROWS[name][1] if name in ROWS else None
        clock, cost = time.process_time(), {}
        if name == UNET:
            control = parser.get_parsed_content("control")
            control.run(plan, parser.get_parsed_content("fine_training"))
            segment = self.by_network(parser, control.network)
        else:
            plan.encode()
            cost["features"], clock = time.process_time() - clock, time.process_time()
            plan.adapt.run()
            result["trained"] = plan.network.trained_count
            segment = self.by_slices(plan)
        cost["train"], clock = time.process_time() - clock, time.process_time()
        if name.endswith(TAUGHT):
            plan.labeller.run()
            cost["label"], clock = time.process_time() - clock, time.process_time()
            parser.get_parsed_content("train::trainer").run()
            segment = self.by_network(parser, parser.get_parsed_content("coarse"))
            cost["train"] += time.process_time() - clock
        result["cases"] = [{"case": item["case"], **segment(item)} for item in self.test]
        result["cost"] = {stage: round(seconds, 1) for stage, seconds in cost.items()}
        return result

    def by_network(self, parser: ConfigParser, network: nn.Module) -> Callable[[Mapping[str, Any]], dict[str, float]]:
        """Return the scores of a 3D network on a test case."""
        inferer = parser.get_parsed_content("inferer")

        def segment(item: Mapping[str, Any]) -> dict[str, float]:
            found = inferer(plain(item["image"]).float()[None], network.eval()).softmax(1)[0]
            return native_scores(item, found, self.values)

        return segment

    def by_slices(self, plan: Any) -> Callable[[Mapping[str, Any]], dict[str, float]]:
        """Return the scores of a SAM with its parts on a test case."""

        def segment(item: Mapping[str, Any]) -> dict[str, float]:
            seen = self.preprocessing({"image": str(item["image"].meta["filename_or_obj"])})["image"]
            found: Tensor = plan.labeller.segment("scored", seen)
            return native_scores({**item, "image": seen}, found, self.values)

        return segment


def main() -> None:
    parser = options(__doc__.splitlines()[0], "folder for features and a row's files")
    parser.add_argument("--labels", type=int, action="append", help="labelled volumes; 0: all; several times for more")
    parser.add_argument("--draws", type=int, default=3, help="draws of the volumes, each with its own seed")
    parser.add_argument("--rows", default="", help="names, parted by ';'; default: all")
    parser.add_argument("--test-cases", type=int, help="default: all")
    parser.add_argument("--settings", default="{}", help="further overrides of train.json, for all rows, as JSON")
    arguments = read_options(parser)
    output = Path(arguments.output)
    results = read_results(arguments, rows=[])
    done = {(row["labels"], row["draw"], row["row"]) for row in results["rows"]}
    benchmark = Benchmark(arguments)
    rows = arguments.rows.split(";") if arguments.rows else [UNET, *ROWS]
    for labels in [count or None for count in arguments.labels or [1, 4]]:
        for draw in range(arguments.draws):
            for name in rows:
                if (labels, draw, name) in done:
                    continue
                row = benchmark.run(name, labels, draw)
                results["rows"].append(row)
                write_atomic(output, json.dumps(results, indent=1))
                dice, hd95 = (sum(case[key] for case in row["cases"]) / len(row["cases"]) for key in ("dice", "hd95"))
                said = (
                    f"{labels or 'all'} labels, draw {draw}, {name:22s} Dice {dice:.3f}  HD95 {hd95:.1f}  {row['cost']}"
                )
                print(said, flush=True)


if __name__ == "__main__":
    main()
