"""Each bundle by its README's command with defaults, beside its plain control and nnU-Net, on the scans' own voxels.

    python -m benchmarks.clinical bundle semisam_plus --dataset DIR --work W/semisam [--set epochs=20 ...]
    python -m benchmarks.clinical nnunet --run W/semisam --dataset DIR --work W/nnunet --environment NNUNET_VENV
    python -m benchmarks.clinical table W/semisam/result.json W/nnunet/3d_fullres.json [...]

`bundle` trains by the command, with --plain_control true where the bundle has one, and notes CPU time and peak memory.
`nnunet` gives the real nnU-Net the same labelled cases and as much CPU time for its training as that run's took,
without its control and evaluation, lets it plan by itself, and predicts the same test cases; a configuration that it
plans is a row: 3d_fullres, and 3d_lowres where there is one. Its planning and preprocessing cost it nothing. Every
prediction is scored by `common.scoring` on the label's own voxels, by label and by the structure's true size; `table`
prints Markdown. Regimes in which no volume is labelled (bits, slices) have no such peer.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.control.verdict import judge
from common.data.datalist import Datalist, read_datalist
from common.data.nnunet import named_channels
from common.data.selection import few_labeled, scored_cases
from common.files.atomic_write import write_atomic
from common.launch.words import place
from common.scoring.compared import Compared
from tools.layouts.raw import to_values, write_raw

from .nnunet.peer import NnUNet
from .structures import DICE, answers, by_label, by_size, count_sizes, overall, prediction, score_case, with_volumes

ROOT = Path(__file__).resolve().parents[1]
BUNDLES = ("semisam_plus", "rrl_medsam", "ada_sam", "weakmedsam", "sam_adapters")
WITH_CONTROL = ("semisam_plus", "ada_sam", "sam_adapters")
# stages of a run that teach the deployed network nothing
OF_CONTROL = ("", " fine", " fine regions", " fine wide", " fine comparison")
NO_TRAINING = ("evaluate", *(f"control{stage}" for stage in OF_CONTROL))
RESULT = "result.json"


def run_bundle(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train a bundle by its command; return its scores and what it cost."""
    bundle, work = arguments.bundle, arguments.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {"dataset_dir": arguments.dataset, "output_dir": work / "eval"}
    settings |= {"ckpt_dir": work / "models", "cache_dir": work / "cache"}
    settings |= {"plain_control": "true"} if bundle in WITH_CONTROL else {}
    given = dict(word.split("=", 1) for word in arguments.set)
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", f"bundles/{bundle}/configs/train.json"]
    command += [f"--{name}={value}" for name, value in {**settings, **given}.items()]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
    with open(work / "log.txt", "wb") as log:
        threads = {"OMP_NUM_THREADS": str(arguments.threads)}
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, **threads}, stdout=log, stderr=log)
    if done.returncode:
        raise SystemExit(f"{bundle}: status {done.returncode}, see {work / 'log.txt'}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    whole = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    run = read_json(work / "eval" / "run.json")
    apart = sum(cost["cpu_seconds"] for name, cost in run["stages"].items() if name in NO_TRAINING)
    rows = read_json(work / "eval" / "metrics.json")["rows"]
    content = read_datalist(arguments.dataset, given.get("datalist", "dataset.json"))
    return {
        "row": bundle,
        "settings": given,
        "cpu_seconds": round(whole - apart, 1),
        "control_and_evaluation_cpu_seconds": round(apart, 1),
        "wall_seconds": round(time.time() - start, 1),
        "peak_memory_mib": round(after.ru_maxrss / 1024),
        "labelled": [case["case"] for case in labelled_cases(run, content, must=False)],
        "rows": with_volumes(rows, scored_cases(content)),
    }


def labelled_cases(run: Mapping[str, Any], content: Datalist, must: bool = True) -> list[Mapping[str, Any]]:
    """Return the training cases whose whole label a run has learnt from, by what its run.json says.

    Args:
        run: content of run.json.
        content: of the data set.
        must: end with a line where the run has learnt from no whole label; else return none.
    """
    atlas, cohort = run["results"].get("atlas"), run["config"]["cohort"]
    if atlas is not None:
        return [case for case in content.training if case["case"] in ([atlas] if isinstance(atlas, str) else atlas)]
    if "num_labeled" in cohort:
        return list(few_labeled(content, cohort["num_labeled"], cohort["seed"], cohort["labeled"])[0])
    if must:
        raise SystemExit("the run has learnt from bits or slices; wanted one of semisam_plus or rrl_medsam: --cases")
    return []


def run_nnunet(arguments: argparse.Namespace) -> None:
    """Plan, train, predict and score nnU-Net; each configuration's result is a file of its own in `work`."""
    content, result = read_datalist(arguments.dataset), {}
    if arguments.run is not None:
        run = read_json(arguments.run / "eval" / "run.json")
        result = read_json(arguments.run / RESULT) if (arguments.run / RESULT).is_file() else {}
    seconds = arguments.cpu_seconds or result.get("cpu_seconds")
    if seconds is None:
        raise SystemExit("found no result.json of a bundle's run; wanted --run of `clinical bundle`, or --cpu-seconds")
    if arguments.cases is not None:
        cases: Sequence[Mapping[str, Any]] = [c for c in content.training if c["case"] in arguments.cases.split(",")]
    elif arguments.run is not None:
        cases = labelled_cases(run, content)
    else:
        raise SystemExit("found neither --run nor --cases; wanted the cases that nnU-Net is to learn from")
    scored = scored_cases(content)
    peer = NnUNet(arguments.environment, arguments.work, arguments.threads)
    shutil.rmtree(peer.raw, ignore_errors=True)
    write_raw(peer.raw, cases, scored, content.labels, named_channels(content.other) or ["MRI"])
    planned = peer.plan()
    wanted = arguments.configuration or planned
    for configuration in wanted:
        if configuration not in planned:
            raise SystemExit(f"{configuration}: nnU-Net has planned {', '.join(planned)} for these cases")
        if configuration != planned[0]:
            peer.preprocess(configuration)
        cost = peer.train(configuration, seconds)
        rows = score(peer.predict(configuration, arguments.mirror), scored, content.labels)
        found = {"row": f"nnU-Net {configuration}", **cost, "mirror": arguments.mirror}
        write_result(arguments.work / f"{configuration}.json", {**found, "labelled": names(cases), "rows": rows})


def score(folder: Path, scored: Sequence[Mapping[str, Any]], labels: Mapping[int, str]) -> list[dict[str, Any]]:
    """Return the rows of nnU-Net's predictions <case>.nii.gz, whose classes are numbered in the order of `labels`."""
    rows = []
    for case in scored:
        classes = prediction(folder / f"{case['case']}.nii.gz")
        rows += score_case(case, to_values(classes, list(labels)), labels)
    return rows


def print_table(results: Sequence[Mapping[str, Any]]) -> None:
    """Print Dice by size and by label, a row for each answer, and the first result beside all others, as Markdown."""
    lines = []
    for result in results:
        shown = answers(result["rows"]) if "control_and_evaluation_cpu_seconds" in result else [DICE]
        for column in shown:
            name = result["row"] if column == DICE else f"{result['row']}: {column.replace('_', ' ')}"
            lines.append((name, result, column))
    counts = count_sizes(results[0]["rows"])
    head = ["", "CPU-s", "Dice", *(f"{size} ({counts[size]})" for size in counts)]
    labels = list(by_label(results[0]["rows"]))
    print("| " + " | ".join([*head, *labels, "HD95 mm"]) + " |\n|" + "---|" * (len(head) + len(labels) + 1))
    for name, result, column in lines:
        rows = result["rows"]
        cells = [overall(rows, column), *by_size(rows, column).values(), *(by_label(rows, column)[n] for n in labels)]
        cost, far = ("", "") if column != DICE else (f"{result['cpu_seconds']:.0f}", f"{overall(rows, 'hd95'):.1f}")
        said = ["–" if math.isnan(cell) else f"{cell:.3f}" for cell in cells]
        print("| " + " | ".join([name, cost, *said, far]) + " |")
    print()
    first = {(row["case"], row["label"]): dict(row) for row in results[0]["rows"]}
    others = []
    for name, result, column in lines[1:]:
        for row in result["rows"]:
            first[row["case"], row["label"]][f"beside {name}"] = row.get(column)
        others.append(Compared(name, name, f"beside {name}", control="see the table"))
    for verdict in judge(first.values(), results[0]["row"], others):
        print(f"* {verdict.text}")


def names(cases: Sequence[Mapping[str, Any]]) -> list[str]:
    return [case["case"] for case in cases]


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    write_atomic(path, json.dumps(result, indent=1) + "\n")
    print(f"{result['row']}: Dice {overall(result['rows']):.3f}, {result['cpu_seconds']:.0f} CPU-s: {path}", flush=True)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    bundle = commands.add_parser("bundle", help="train a bundle by its command")
    bundle.add_argument("bundle", choices=BUNDLES)
    bundle.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting that is no default")
    peer = commands.add_parser("nnunet", help="the real nnU-Net on the same labelled cases with the same CPU time")
    peer.add_argument("--run", type=place, help="--work of `clinical bundle`")
    peer.add_argument("--cases", help="ids of the labelled cases, in the place of the run's")
    peer.add_argument("--cpu-seconds", type=float, help="of training, in the place of the run's")
    environment = os.environ.get("NNUNET_ENVIRONMENT")
    peer.add_argument("--environment", type=place, default=environment, required=environment is None,
                      help="virtual environment with nnunetv2; default: NNUNET_ENVIRONMENT")  # fmt: skip
    peer.add_argument(
        "--configuration", action="append", choices=("3d_fullres", "3d_lowres"), help="default: all planned"
    )
    peer.add_argument("--mirror", action="store_true", help="predict mirrored images, too, as nnU-Net does by default")
    for command in (bundle, peer):
        command.add_argument("--dataset", type=place, required=True, help="folder with dataset.json")
        command.add_argument("--work", type=place, required=True, help="folder of everything that is made")
        command.add_argument("--threads", type=int, default=1)
    table = commands.add_parser("table", help="print results beside each other")
    table.add_argument("results", nargs="+", type=place)
    arguments = parser.parse_args(words)
    if arguments.command == "bundle":
        write_result(arguments.work / RESULT, run_bundle(arguments))
    elif arguments.command == "nnunet":
        run_nnunet(arguments)
    else:
        print_table([read_json(path) for path in arguments.results])


if __name__ == "__main__":
    main()
