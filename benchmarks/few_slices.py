"""Masks on a few slices: what each part of ADA-SAM brings, and what a UNet makes of the same slices.

    python -m benchmarks.few_slices DATASET_DIR --datalist BITS.json --output results.json --work FOLDER --slices 5

`--datalist` is what `python -m tools.slice_labels DATASET_DIR --keep-labels` has written: bits for all slices, masks of
which a seeded draw may be opened. All rows of a draw learn from the same slices. A row that trains ADA-SAM is scored by
several ways of segmenting a volume with it; "oracle" takes its boxes from the truth of the test case and is a bound, no
result. Rows that are there already are not run again, so an interrupted benchmark goes on.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from monai.transforms import ResampleToMatch
from torch import Tensor, nn

from .resumable import options, read_options, read_results, row_parser
from .scoring import native_scores
from .tables import WITHIN

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "bundles" / "ada_sam"
sys.path[:0] = [str(BUNDLE)]

from scripts.common.files.atomic_write import write_atomic  # noqa: E402
from scripts.common.sam.features.slice_features import context_planes  # noqa: E402
from scripts.common.tensors import plain  # noqa: E402
from scripts.common.training.checkpoint import seed_epoch  # noqa: E402
from scripts.common.training.sampling import StreamSampler  # noqa: E402
from scripts.control import OnlyMasks  # noqa: E402
from scripts.learning.slice_unet import gated, segment_slices  # noqa: E402
from scripts.plan import FewSlicesPlan  # noqa: E402

BARE = {"negative_weight": 0, "consistency_weight": 0, "prompt_weight": 0}
ALONE, METHOD = "ADA-SAM alone", "the method"
# name -> overrides of train.json; a row with a plus adds to the one above
ADAPTED: dict[str, dict[str, Any]] = {
    "CAM boxes": {**BARE, "locate_weight": 0, "cam_range": "running", "pooling": "mean"},
    "+ located maps": BARE,
    "+ negatives": {"consistency_weight": 0, "prompt_weight": 0},
    "+ teacher": {"prompt_weight": 0},
    "+ prompt consistency": {},
    "+ feedback": {"feedback": True},
    "+ feedback gt": {"feedback": "gt"},
    "no training": {"adapt_epochs": 0},
    ALONE: {"unet_share": 0},  # these two differ in who teaches the segmenter
    METHOD: {},
}
UNET_2D, UNET_3D = "2D UNet", "3D UNet"
ROWS = [UNET_2D, UNET_3D, *ADAPTED]
# ways of segmenting a volume -> options of VolumeInference
SLICE_BY_SLICE = {
    "presence_sigma": 0.0, "use_extents": False, "longest_run": False, "cam_sigma": 0.0, "box_median": 1, "passes": 1,
    "propagate": False, "smooth": 0.0, "largest_component": False,
}  # fmt: skip
WAYS: dict[str, dict[str, Any]] = {
    "slices": SLICE_BY_SLICE,
    "volume": {"passes": 2, "propagate": False},
    "volume + propagation": {"passes": 2, "propagate": True},
    "volume, whole-slice prompt": {"first_prompt": "whole", "passes": 2, "propagate": False},
}


class Benchmark:
    """All rows of one data set."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.work = arguments, Path(arguments.work)
        parser = self.parser(num_label_slices=1)
        self.values = parser.get_parsed_content("cohort").grid.label_values
        test = parser.get_parsed_content("validate::dataset")
        self.test = [test[index] for index in range(min(len(test), arguments.test_cases or len(test)))]
        seen = parser.get_parsed_content("slice_preprocessing")
        for item in self.test:
            item["seen"] = seen({"image": str(item["image"].meta["filename_or_obj"])})["image"]
        self.heads: dict[str, dict[str, Tensor]] = {}

    def parser(self, **overrides: Any) -> ConfigParser:
        row, arguments = self.work / "row", self.arguments
        fixed: dict[str, Any] = {
            "bundle_root": str(BUNDLE), "dataset_dir": arguments.dataset_dir, "datalist": arguments.datalist,
            "output_dir": str(row), "ckpt_dir": str(row), "cache_dir": str(self.work), "save_every": 10**6,
            "labeller::folder": str(row / "labels"),
        }  # fmt: skip
        return row_parser(BUNDLE, arguments, fixed, overrides)

    def run(self, name: str, slices: int, draw: int, segment: bool) -> dict[str, Any]:
        """Train a row, and where wanted a segmenter on its pseudo labels; score all of it."""
        shutil.rmtree(self.work / "row", ignore_errors=True)
        seed_epoch(draw, "build", 0)
        parser = self.parser(num_label_slices=slices, seed=draw, **ADAPTED.get(name, {}))
        cohort, images = parser.get_parsed_content("cohort"), parser.get_parsed_content("images")
        cohort.check()
        for some in dict.fromkeys((images, parser.get_parsed_content("slice_images"))):
            some.set_data(cohort.cases)
        result: dict[str, Any] = {"row": name, "slices": slices, "draw": draw, "annotated": cohort.label_slices}
        cost: dict[str, float] = {}
        clock = time.process_time()

        def done(stage: str) -> None:
            nonlocal clock
            cost[stage], clock = time.process_time() - clock, time.process_time()

        ways: dict[str, Callable[[dict[str, Any]], Tensor]]
        if name == UNET_3D:
            parser["labeller"], parser["images"] = OnlyMasks(images, len(self.values)), images
            ways = {"": self.train_segmenter(parser)}
            done("train")
        else:
            plan = parser.get_parsed_content("plan")
            plan.encode()
            done("features")
            self.classify(parser, plan)
            done("classify")
            if name == UNET_2D:
                ways = self.train_slices(plan)
                done("train")
            else:
                if parser.get("adapt_epochs"):
                    plan.adapt.run()
                done("adapt")
                ways = self.ways(plan)
                if segment:
                    if plan.labeller.second is not None:
                        plan.learn_from_slices()
                        ways[WITHIN] = self.teacher(plan)
                        done("slice UNet")
                    plan.labeller.run()
                    done("label")
                    ways["segmenter"] = self.train_segmenter(parser)
                    done("train")
        result["cases"] = [self.score(item, ways) for item in self.test]
        done("score")
        result["cost"] = {stage: round(seconds, 1) for stage, seconds in cost.items()}
        return result

    def classify(self, parser: ConfigParser, plan: FewSlicesPlan) -> None:
        """Train the head, once for all rows of a draw with the same settings of it."""
        names = (
            "sam", "sam_image_size", "context", "head", "hidden", "pooling", "seed", "classify_epochs", "feedback",
            "num_label_slices", "locate_weight", "cam_range",
        )  # fmt: skip
        key = json.dumps([parser.get(name) for name in names])
        head = plan.volume.network.head
        if key not in self.heads:
            plan.classify.run()
            self.heads[key] = {name: value.clone() for name, value in head.state_dict().items()}
        head.load_state_dict(self.heads[key])

    def ways(self, plan: FewSlicesPlan) -> dict[str, Callable[[dict[str, Any]], Tensor]]:
        """Return the ways of segmenting a volume with the adapted ADA-SAM: test item -> probabilities [K, H, W, D]."""
        network, features = plan.volume.network, plan.features
        kind, axis, size = type(plan.volume.inference), plan.cohort.slice_axis, plan.cohort.slice_grid.spatial_size
        values = {"label_values": self.values}

        def embeddings(item: dict[str, Any]) -> Tensor:
            features.note("scored", item["seen"])
            return features.embedding("scored")

        def own(inference: Any) -> Callable[[dict[str, Any]], Tensor]:
            return lambda item: inference(embeddings(item), size).probabilities

        ways = {title: own(kind(network, axis, **options, **values)) for title, options in WAYS.items()}
        oracle = kind(network, axis, **values)
        ways["oracle"] = lambda item: oracle.oracle(embeddings(item), self.truth(item)).probabilities
        return ways

    def teacher(self, plan: FewSlicesPlan) -> Callable[[dict[str, Any]], Tensor]:
        """Return the 2D network that teaches the segmenter beside ADA-SAM."""
        network, axis, context = plan.labeller.second.network, plan.cohort.slice_axis, plan.features.context
        return lambda item: segment_slices(network, context_planes(plain(item["seen"]), axis, context), axis)

    def truth(self, item: dict[str, Any]) -> Tensor:
        """Return the truth of a test case on the grid of SAM's slices, bool [P, H, W, D]."""
        classes = torch.stack([plain(item["label"])[0] == value for value in self.values[1:]]).float()
        label = item["label"].clone()
        label.set_array(classes)
        return plain(ResampleToMatch(mode="nearest")(label, item["seen"])) > 0.5

    def train_segmenter(self, parser: ConfigParser) -> Callable[[dict[str, Any]], Tensor]:
        """Train the bundle's 3D segmenter on whatever the labeller has."""
        parser.get_parsed_content("train::trainer").run()
        network, inferer = parser.get_parsed_content("network").eval(), parser.get_parsed_content("inferer")
        return lambda item: inferer(plain(item["image"]).float()[None], network).softmax(1)[0]

    def train_slices(self, plan: FewSlicesPlan) -> dict[str, Callable[[dict[str, Any]], Tensor]]:
        """Train a 2D UNet on the slices with masks, half of each batch slices without any class."""
        classes, axis = len(self.values), plan.cohort.slice_axis
        network = UNet(2, 1, classes, (16, 32, 64, 128), (2, 2, 2), num_res_units=2, norm="instance")
        slices = plan.slices.without_embeddings()
        table = slices.table
        empty = [number for number in table.others() if not table.rows[number].bits.any()]
        streams = []
        for kind, indices, size in ((1, table.annotated(), 8), (2, empty, 2)):
            if indices:
                count = self.arguments.unet_steps * size
                sampler = StreamSampler(slices, count, seed=100 * plan.run.seed + kind)
                sampler.subset = indices
                streams.append(torch.utils.data.DataLoader(slices, size, sampler=sampler))
        optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
        schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, self.arguments.unet_steps, 0.9)
        loss = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False)
        for batches in zip(*streams, strict=True):
            image = torch.cat([batch["image"][:, :1] for batch in batches])
            mask = torch.cat([batch["mask"].clamp_min(0) for batch in batches])  # no class: background
            optimizer.zero_grad()
            loss(network(image), mask[:, None]).backward()
            optimizer.step()
            schedule.step()
        network.eval()
        return {"": lambda item: self.by_slices(network, item, axis), "gated": self.gated(plan, network, axis)}

    @staticmethod
    def by_slices(network: nn.Module, item: dict[str, Any], axis: int) -> Tensor:
        """Return the probabilities [K, H, W, D] of a 2D network, slice by slice."""
        return segment_slices(network, context_planes(plain(item["seen"]), axis), axis)

    def gated(self, plan: FewSlicesPlan, network: nn.Module, axis: int) -> Callable[[dict[str, Any]], Tensor]:
        """Return the 2D network where the head, smoothed along the slices, says that a class is there."""
        inference, features, size = plan.volume.inference, plan.features, plan.cohort.slice_grid.spatial_size

        def segment(item: dict[str, Any]) -> Tensor:
            features.note("scored", item["seen"])
            found = inference(features.embedding("scored"), size)
            return gated(self.by_slices(network, item, axis), found.gate, axis)

        return segment

    def score(self, item: dict[str, Any], ways: dict[str, Callable[[dict[str, Any]], Tensor]]) -> dict[str, Any]:
        """Return Dice and HD95 (mm), mean over the labels, of every way on the native grid of a test case."""
        row: dict[str, Any] = {"case": item["case"]}
        for title, segment in ways.items():
            found = segment(item)
            image = item["seen" if found.shape[1:] == item["seen"].shape[1:] else "image"]
            scores = native_scores({**item, "image": image}, found, self.values)
            row |= {f"{title} {key}".strip(): value for key, value in scores.items()}
        return row


def main() -> None:
    parser = options(__doc__.splitlines()[0], "folder for embeddings and a row's files")
    parser.add_argument("--datalist", required=True, help="of tools.slice_labels --keep-labels")
    parser.add_argument("--slices", type=int, action="append", help="slices with masks; may be given several times")
    parser.add_argument("--draws", type=int, default=3, help="draws of the slices, each with its own seed")
    parser.add_argument("--rows", default="", help="names, parted by ';'; default: all")
    parser.add_argument("--segment", default=f"{ALONE};{METHOD}", help="rows whose labels teach a segmenter")
    parser.add_argument("--unet-steps", type=int, default=400)
    parser.add_argument("--test-cases", type=int, help="default: all")
    parser.add_argument("--settings", default="{}", help="further overrides of train.json, for all rows, as JSON")
    arguments = read_options(parser)
    output = Path(arguments.output)
    results = read_results(arguments, rows=[])
    done = {(row["slices"], row["draw"], row["row"]) for row in results["rows"]}
    benchmark = Benchmark(arguments)
    rows = arguments.rows.split(";") if arguments.rows else ROWS
    segment = arguments.segment.split(";")
    wanted = [
        (slices, draw, row)
        for draw in range(arguments.draws)
        for slices in arguments.slices or [5, 20, 50, 100]
        for row in rows
    ]
    for slices, draw, name in wanted:
        if (slices, draw, name) in done:
            continue
        row = benchmark.run(name, slices, draw, name in segment)
        results["rows"].append(row)
        write_atomic(output, json.dumps(results, indent=1))
        cases = row["cases"]
        keys = [key for key in cases[0] if key.endswith("dice")]
        shown = "  ".join(f"{key} {sum(case[key] for case in cases) / len(cases):.3f}" for key in keys)
        print(f"{slices} slices, draw {draw}, {name:22s} {shown}  {row['cost']}", flush=True)


if __name__ == "__main__":
    main()
