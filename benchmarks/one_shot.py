"""One label, many scans: RRL-MedSAM, its parts switched off one by one, and what it has to beat.

    python -m benchmarks.one_shot DATASET_DIR --output results.json --atlas CASE [--atlas CASE ...] [--steps 600]

Registration is done once an atlas and shared by all rows; every trained row then starts from the same weights and
gets the same number of network steps (a step of two models counts twice). Test labels are used for scoring only. Rows
that are there already are not run again, so an interrupted benchmark goes on.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from torch import Tensor

from .resumable import options, read_options, read_results
from .scoring import native_scores

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "bundles" / "rrl_medsam"
sys.path[:0] = [str(BUNDLE)]

from scripts.common.atlas.bridges import hand_on  # noqa: E402
from scripts.common.atlas.propagation import propagate  # noqa: E402
from scripts.common.files.atomic_write import write_atomic  # noqa: E402
from scripts.common.grid.native import ToNativeGridd  # noqa: E402
from scripts.common.pseudo_labels.opinions import fuse  # noqa: E402
from scripts.common.pseudo_labels.refine import refine_by_intensity  # noqa: E402
from scripts.common.registration.fields import folding_percent  # noqa: E402
from scripts.common.serving.inferers import AffineTTAInferer  # noqa: E402
from scripts.common.tensors import plain  # noqa: E402
from scripts.common.training.checkpoint import seed_epoch  # noqa: E402

# name -> (overrides of train.json, models a step trains)
ROWS: dict[str, tuple[dict[str, Any], int]] = {
    "full": ({}, 2),
    "general only": ({"output": "general"}, 1),
    "all true labels": ({"output": "general", "sam": None}, 1),
    "UNet on pseudo labels": ({"output": "general", "sam": None, "keep": 1.0, "bridges": 0}, 1),
    "no distillation": ({"sam": None}, 2),
    "mutual EMA every step": ({"ema_every": 1}, 2),
    "no prompt": ({"prompt": False, "output": "medical"}, 1),
    "two rounds": ({"rounds": 2}, 2),
    "paper": (
        {"output": "medical", "keep": 1.0, "instance_steps": 0, "bridges": 0, "refine_labels": 0.0,
         "ema_every": 1, "online_labels": True, "distillation_weight": 0.1},
        2,
    ),
    "no selection": ({"keep": 1.0}, 2),
    "better half alone": ({"keep_least": 0}, 2),
    "best third": ({"keep": 0.3, "keep_least": 0}, 2),
    "narrow augmentation": (
        {"train::augmentation::rotate": 0.2, "train::augmentation::scale": 0.12, "train::augmentation::stretch": 0.0,
         "train::augmentation::contrast": [0.7, 1.5], "train::augmentation::blur": 0.0},
        2,
    ),
    "labels fused with the network's": ({"fuse_network": True}, 2),
    "atlas label only": ({"output": "general", "sam": None}, 1),
    "three rounds": ({"rounds": 3}, 2),
    "no bridges": ({"bridges": 0}, 2),
    "bridges join every label": ({"confirmation": 1.1}, 2),
    "no intensity in labels": ({"refine_labels": 0.0}, 2),
    "mutual EMA every 50 steps": ({"ema_every": 50}, 2),
    "guided labels": ({"guided_steps": 40}, 2),
    "aligned copies": ({"copies": 0.5}, 2),
    "aligned copies of exchanged amplitude": ({"copies": 0.5, "restyle": "amplitude"}, 2),
    "randomised copies": ({"randomise": 0.25}, 2),
}  # fmt: skip


class GivenLabels:
    """Stand for the labeller where labels are given: the atlas's alone, or (the upper bound) all true ones."""

    def __init__(self, labels: dict[str, Tensor], order: list[str]) -> None:
        self.known, self.order, self.round = labels, order, 1
        self.labels = self
        self.selected = [case for case in order if case in labels]

    def load(self, case: str) -> dict[str, Tensor]:
        return {"label": self.known[case].float()}

    def label(self, number: int) -> None:
        """Nothing to make."""
        self.round = number

    def training_indices(self) -> list[int]:
        return [index for index, case in enumerate(self.order) if case in self.known]


class Benchmark:
    """All rows of one data set and one atlas."""

    def __init__(self, arguments: argparse.Namespace, atlas: str | None, shared: dict[str, Any]) -> None:
        self.arguments, self.shared = arguments, shared
        work = Path(arguments.work)
        self.overrides: dict[str, Any] = {
            "bundle_root": str(BUNDLE), "dataset_dir": arguments.dataset_dir, "atlas": atlas, "output_dir": str(work),
            "ckpt_dir": str(work), "cache_dir": str(work), "seed": arguments.seed, "epoch_length": 50,
            "save_every": 10**6,
            "distill_epochs": max(1, arguments.distill_steps // 50),
            "register_epochs": max(1, arguments.register_steps // 50),
        }  # fmt: skip
        if arguments.spatial_size:
            self.overrides |= {"spatial_size": arguments.spatial_size, "pixdim": arguments.pixdim}
        self.costs: dict[str, float] = {}
        self.prepare(work)

    def parser(self, **overrides: Any) -> ConfigParser:
        parser = ConfigParser()
        parser.read_config(str(BUNDLE / "configs" / "train.json"))
        parser["train::trainer::plan"] = None  # the stages before it are measured one by one
        for key, value in {**self.overrides, **overrides}.items():
            parser[key] = value
        return parser

    def measure(self, name: str, work: Callable[[], Any]) -> Any:
        start = time.process_time()
        result = work()
        self.costs[name] = round(time.process_time() - start, 2)
        return result

    def prepare(self, work: Path) -> None:
        """Everything the rows share: volumes, SAM features, distilled encoder, registrations."""
        seed_epoch(self.arguments.seed, "build", 0)
        parser = self.parser()
        self.cohort = parser.get_parsed_content("cohort")
        if self.arguments.unlabeled:
            self.cohort.images = self.shared.setdefault("chosen", self.choose())
        if "images" not in self.shared:
            images = parser.get_parsed_content("images")
            self.measure("load volumes", lambda: images.set_data(self.cohort.images))
            self.shared["images"] = images
        self.images = self.shared["images"]
        parser["cohort"], parser["images"] = self.cohort, self.images  # a change makes a parser resolve anew
        plan = parser.get_parsed_content("plan")
        teacher, labeller, distillation = plan.teacher, plan.labeller, plan.distillation
        network = labeller.network
        self.initial = {k: v.clone() for k, v in network.state_dict().items()}
        self.measure("SAM features", plan.encode)
        labeller.resume = True
        self.measure("atlas", labeller.choose)
        self.measure("affine", labeller.align)
        self.folder = labeller.work.folder
        self.folder.mkdir(parents=True, exist_ok=True)  # of several atlases nothing lies there yet
        stage_1 = self.folder / "stage_1.pt"
        if not stage_1.exists():
            self.measure("distill", plan.distill.run)
            self.measure("register (network)", plan.register.run)
            registration = labeller.registration.state_dict()
            torch.save({"network": network.state_dict(), "registration": registration, "costs": self.costs,
                        "distillation": distillation.state_dict()}, stage_1)  # fmt: skip
        self.stage_1 = torch.load(stage_1, weights_only=True)
        network.load_state_dict(self.stage_1["network"])
        labeller.registration.load_state_dict(self.stage_1["registration"])
        self.costs = {**self.stage_1["costs"], **self.costs}
        self.measure("register (instance) and label", plan.label)
        self.labeller, self.teacher, self.distillation = labeller, teacher, distillation
        self.test = parser.get_parsed_content("validate::dataset")

    def choose(self) -> list[dict]:
        """Return the atlases and a seeded draw of unlabelled cases, the same for all atlases."""
        named = {name for names in self.arguments.atlas or [] for name in names.split(",")}
        atlases = [case for case in self.cohort.images if case["case"] in named]
        others = [case for case in self.cohort.images if case not in atlases]
        drawn = random.Random(self.arguments.seed).sample(others, self.arguments.unlabeled)
        return atlases + sorted(drawn, key=lambda case: case["case"])

    def train(self, name: str) -> torch.nn.Module:
        """Train one row from the shared start."""
        overrides, models = ROWS[name]
        steps = self.arguments.steps * 2 // models
        folder = self.folder.parents[1] / "row"
        shutil.rmtree(folder, ignore_errors=True)
        folders = {self.folder, *(one.work.folder for one in self.labeller.registered)}
        for one in folders:
            (folder / "labels" / one.name).mkdir(parents=True, exist_ok=True)
            for bank in ("registration", "bridges", "finer"):
                if (one / bank).exists():  # there may be no bridges, and no finer voxels
                    (folder / "labels" / one.name / bank).symlink_to((one / bank).resolve())
        overrides = {**overrides, "epochs": max(1, steps // 50), "cache_dir": str(folder), "ckpt_dir": str(folder)}
        seed_epoch(self.arguments.seed, "build", 0)
        parser = self.parser(**overrides)
        parser["cohort"], parser["images"], parser["teacher"] = self.cohort, self.images, self.teacher
        parser["distillation"] = self.distillation
        given = name in ("atlas label only", "all true labels")
        if given:
            labels = {atlas.case: atlas.label[0] for atlas in self.labeller.atlases}
            labels |= self.true_labels() if name == "all true labels" else {}
            parser["labeller"] = GivenLabels(labels, [item["case"] for item in self.cohort.images])
        network, registration = parser.get_parsed_content("coarse"), parser.get_parsed_content("registration")
        state = dict(self.stage_1["network"])
        if "sam" in overrides:  # without distillation the general model starts as it was made
            state |= {key: value for key, value in self.initial.items() if key.startswith("general_encoder")}
        network.load_state_dict(state)
        registration.load_state_dict(self.stage_1["registration"])
        self.distillation.load_state_dict(self.stage_1["distillation"])
        if not given:
            labeller = parser.get_parsed_content("labeller")
            labeller.resume = True
            labeller.align()
        self.measure(name, parser.get_parsed_content("train::trainer").run)
        return network.eval()

    def true_labels(self) -> dict[str, Tensor]:
        """Return the true labels of the training cases, for the upper bound only."""
        if "true" not in self.shared:
            transform = self.labeller.label_transform
            cases = [case for case in self.cohort.content.training if "label" in case]
            self.shared["true"] = {c["case"]: plain(transform({"label": c["label"]})["label"]).half() for c in cases}
        return self.shared["true"]

    def tests(self) -> list[dict[str, Any]]:
        """Return the test cases, loaded once."""
        if "test" not in self.shared:
            self.shared["test"] = [self.test[i] for i in range(len(self.test))]
        return self.shared["test"]

    def score(self, item: dict[str, Any], probabilities: Tensor, distances: bool = True) -> dict[str, float]:
        """Return mean Dice, HD95 and ASSD (mm) over labels, on the native grid."""
        values = self.cohort.grid.label_values
        if distances:
            return native_scores(item, probabilities, values, ("dice", "hd95", "assd"))
        native = ToNativeGridd("pred", values)({"pred": probabilities, "image": item["image"]})["pred"]
        label, scores = plain(item["label"]), []
        for value in values[1:]:
            a, b = native == value, label == value
            scores.append(2 * float((a & b).sum()) / max(float(a.sum() + b.sum()), 1.0))
        return {"dice": sum(scores) / len(scores)}

    def propagations(self) -> dict[str, list[dict]]:
        """Score what registration alone gives: copy, affine, network, instance optimisation, bridges' vote."""
        rows: dict[str, list[dict]] = {}
        atlas = self.labeller.atlas
        start = time.process_time()
        spent = {"affine": 0.0, "network": 0.0, "instance": 0.0, "bridges": 0.0}
        bridges, steps = self.labeller.bridge_volumes(), self.labeller.bridge_steps
        for item in self.tests():
            fixed, inside = self.labeller.view(item)
            start = time.process_time()
            affine = atlas.find_affine(fixed, inside)
            spent["affine"] += time.process_time() - start
            start = time.process_time()
            velocities = atlas.velocities(fixed, affine, inside)
            spent["instance"] += time.process_time() - start
            labels = {"copy": atlas.label[0], "affine": atlas.aligned(affine)[1]}
            folding = {}
            for name, velocity in velocities.items():
                labels[name], ddf = atlas.propagate(affine, velocity, inside)
                folding[name] = float(folding_percent(ddf))
            start = time.process_time()
            if len(self.labeller.atlases) > 1:
                labels["instance"], _, folding["instance"] = propagate(self.labeller, item["image"])
            handed = [hand_on(fixed, image, label, steps, inside=inside) for _, image, label in bridges]
            labels["bridges"] = fuse([labels["instance"], *handed])
            spent["bridges"] += time.process_time() - start
            for name, label in labels.items():
                refined = self.score(item, refine_by_intensity(fixed[0], label))
                raw = self.score(item, label)
                rows.setdefault(f"propagation: {name}", []).append(
                    {"case": item["case"], **raw, "folding": folding.get(name, 0.0), "dice+intensity": refined["dice"],
                     "hd95+intensity": refined["hd95"], "assd+intensity": refined["assd"]}
                )  # fmt: skip
        self.costs |= {f"test {name}, per case": round(t / len(self.tests()), 3) for name, t in spent.items()}
        return rows

    def predictions(self, network: torch.nn.Module, guided: bool) -> list[dict]:
        """Score a network as it is, and with the steps at test time."""
        scores = []
        for item in self.tests():
            image = plain(item["image"]).float()[None]
            with torch.no_grad():
                once = AffineTTAInferer(0)(image, network).exp()[0]
            row = {"case": item["case"], **self.score(item, once)}
            refined = self.score(item, refine_by_intensity(image[0], once))
            row |= {f"{key}+intensity": value for key, value in refined.items()}
            if guided:
                with torch.no_grad():
                    views = AffineTTAInferer(4)(image, network).exp()[0]
                row["dice+tta"] = self.score(item, views, distances=False)["dice"]
                row["dice+tta+intensity"] = self.score(item, refine_by_intensity(image[0], views), False)["dice"]
                inside, atlas = self.labeller.inside(item["image"]), self.labeller.atlas
                affine = atlas.find_affine(image, inside)
                velocity = atlas.velocities(image, affine, inside)["instance"]
                guided_velocity = atlas.guide(image, affine, velocity, once, 60, inside)
                label, _ = atlas.propagate(affine, guided_velocity, inside)
                row["dice of guided propagation"] = self.score(item, label, distances=False)["dice"]
            scores.append(row)
        return scores


def main() -> None:
    parser = options(__doc__.splitlines()[0], "folder for registrations and features")
    parser.add_argument(
        "--atlas",
        action="append",
        help="case id, or ids of several atlases as A,B; may be given several times; default: the proposal",
    )
    parser.add_argument("--rows", default="", help="comma-separated names; default: all")
    parser.add_argument(
        "--steps", type=int, default=600, help="steps of a two-model row; a one-model row gets twice as many"
    )
    parser.add_argument("--distill-steps", type=int, default=300)
    parser.add_argument("--register-steps", type=int, default=300)
    parser.add_argument("--unlabeled", type=int, help="draw so many unlabelled cases; default: all")
    parser.add_argument("--seed", type=int, default=0)
    arguments = read_options(parser)
    output = Path(arguments.output)
    results = read_results(arguments, atlases={})
    shared: dict[str, Any] = {}
    for atlas in arguments.atlas or [None]:
        benchmark = Benchmark(arguments, atlas, shared)
        name = ",".join(atlas.case for atlas in benchmark.labeller.atlases)
        rows = results["atlases"].setdefault(name, {"rows": {}, "costs": {}})
        if "propagation: copy" not in rows["rows"]:
            rows["rows"] |= benchmark.propagations()
        for row in [r for r in (arguments.rows.split(",") if arguments.rows else ROWS) if r not in rows["rows"]]:
            network = benchmark.train(row)
            rows["rows"][row] = benchmark.predictions(network, guided=row == "full")
            mean = sum(s["dice"] for s in rows["rows"][row]) / len(rows["rows"][row])
            print(f"{name}  {row:28s} Dice {mean:.4f}  {benchmark.costs[row]:.0f} CPU-s", flush=True)
            rows["costs"] |= benchmark.costs
            write_atomic(output, json.dumps(results, indent=1))
        rows["costs"] |= benchmark.costs
        write_atomic(output, json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
