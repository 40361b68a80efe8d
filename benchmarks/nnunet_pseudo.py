"""What pseudo labels of a bundle bring the real nnU-Net: the labelled cases alone, and with predicted ones beside them.

    python -m monai.bundle run --config_file bundles/semisam_plus/configs/inference.json --dataset_dir UNLABELLED \
        --output_dir RESULTS --save_probabilities true
    python -m benchmarks.nnunet_pseudo --dataset DIR --predictions RESULTS --work W --environment NNUNET_VENV \
        --cpu-seconds 240 --spacing 2,2,2 --sure 0,0.9

A row is a data set as `tools/datasets.py to_nnunet` writes it: the labelled cases, then with the scans without a label
by their prediction, for each probability of `--sure` under which a voxel is ignored (0: none is). For each,
nnU-Net extracts, plans and preprocesses by itself, trains for the same CPU time on all cases, and predicts the test
cases, which are scored on their own voxels. Rows that are done are not run again. Prints Markdown.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.control.verdict import judge
from common.data.datalist import Datalist, read_datalist
from common.data.selection import scored_cases
from common.launch.words import place
from common.scoring.compared import Compared
from tools.layouts.export import export_nnunet

from .clinical import read_json, score, write_result
from .nnunet.peer import NnUNet
from .structures import mean_of_cases, overall

ALONE, CONFIGURATION = "labels alone", "3d_fullres"


def run(arguments: argparse.Namespace, content: Datalist, row: str, sure: float | None) -> dict[str, Any]:
    """Return the result of a row, `sure` being None for the labels alone; one that is there is read."""
    work = arguments.work / ("alone" if sure is None else f"sure_{sure:g}")
    result = work / "result.json"
    if not result.is_file():
        peer = NnUNet(arguments.environment, work, arguments.threads)
        shutil.rmtree(peer.raw, ignore_errors=True)
        predictions = None if sure is None else arguments.predictions
        said = export_nnunet(
            arguments.dataset, peer.raw, arguments.datalist, predictions, sure or 0, None, arguments.drop_doubtful
        )
        print(*said, sep="\n", flush=True)
        peer.plan(arguments.spacing)
        cost = peer.train(CONFIGURATION, arguments.cpu_seconds)
        rows = score(peer.predict(CONFIGURATION), scored_cases(content), content.labels)
        write_result(result, {"row": row, **cost, "said": said, "rows": rows})
    return read_json(result)


def print_table(results: Sequence[Mapping[str, Any]]) -> None:
    """Print Dice, the worst case and HD95 of each row, and the first row beside each other, as Markdown."""
    print("| nnU-Net | Dice | worst case | HD95 mm | CPU-s | steps |\n|---|---|---|---|---|---|")
    for result in results:
        rows = result["rows"]
        cells = [f"{overall(rows):.3f}", f"{min(mean_of_cases(rows).values()):.3f}", f"{overall(rows, 'hd95'):.1f}"]
        print("| " + " | ".join([result["row"], *cells, f"{result['cpu_seconds']:.0f}", str(result["steps"])]) + " |")
    print()
    for result in results[1:]:
        pairs = {(row["case"], row["label"]): dict(row) for row in result["rows"]}
        for row in results[0]["rows"]:
            pairs[row["case"], row["label"]]["beside alone"] = row["dice"]
        compared = [Compared(ALONE, ALONE, "beside alone", control="nnU-Net on the labelled cases")]
        print(*(f"* {verdict.text}" for verdict in judge(pairs.values(), result["row"], compared)), sep="\n")


def numbers(text: str) -> list[float]:
    return [float(word) for word in text.split(",")]


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=place, required=True, help="folder with dataset.json")
    parser.add_argument("--datalist", default="dataset.json", help="whose training cases with a label are learnt from")
    parser.add_argument("--predictions", type=place, required=True, help="of inference.json on the other scans")
    parser.add_argument("--work", type=place, required=True, help="folder of everything that is made")
    environment = os.environ.get("NNUNET_ENVIRONMENT")
    parser.add_argument("--environment", type=place, default=environment, required=environment is None,
                        help="virtual environment with nnunetv2; default: NNUNET_ENVIRONMENT")  # fmt: skip
    parser.add_argument("--cpu-seconds", type=float, default=240, help="of each training")
    parser.add_argument("--spacing", type=numbers, help="mm of nnU-Net's plan, as 2,2,2; default: its own")
    parser.add_argument("--sure", type=numbers, default=[0, 0.9], help="probabilities, default 0,0.9")
    parser.add_argument("--drop-doubtful", action="store_true", help="leave out what the review says to look at")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args(words)
    arguments.work = Path(arguments.work)
    content = read_datalist(arguments.dataset, arguments.datalist)
    rows = {ALONE: None, **{f"pseudo labels, sure {sure:g}": sure for sure in arguments.sure}}
    results = []
    for row, sure in rows.items():
        results.append(run(arguments, content, row, sure))
        print_table(results)


if __name__ == "__main__":
    main()
