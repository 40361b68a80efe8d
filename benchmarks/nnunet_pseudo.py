"""What pseudo labels of a bundle bring the real nnU-Net: the labelled cases alone, and with predicted ones beside them.

    python -m monai.bundle run --config_file bundles/semisam_plus/configs/inference.json --dataset_dir UNLABELLED \
        --output_dir RESULTS --save_probabilities true
    python -m benchmarks.nnunet_pseudo --dataset DIR --predictions RESULTS --work W --environment NNUNET_VENV \
        --cpu-seconds 240 --spacing 2,2,2 --sure 0,0.9
    python -m benchmarks.nnunet_pseudo ... --sure 0,0.6,0.9 --truth FILE    # how good the labels are; trains nothing

A row is a data set as `tools/datasets.py to_nnunet` writes it: the labelled cases, then with the scans without a label
by their prediction, for each probability of `--sure` under which a voxel is ignored (0: none is). For each,
nnU-Net extracts, plans and preprocesses by itself, trains for the same CPU time on all cases, and predicts the test
cases, which are scored on their own voxels. Rows that are done are not run again. Prints Markdown.

`--truth` names a datalist in which the predicted scans have their label, and prints what each probability leaves open
and how right the rest is. It is for choosing one on training scans; nothing else here opens these labels.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from common.control.verdict import judge
from common.data.datalist import Datalist, read_datalist
from common.data.selection import scored_cases
from common.launch.words import place
from common.scoring.compared import Compared
from common.volumes.label import read_label
from tools.layouts.export import export_nnunet
from tools.layouts.pseudo_labels import Prediction, find_predictions, write_pseudo_label

from .clinical import read_json, score, write_result
from .nnunet.peer import NnUNet
from .structures import mean_of_cases, overall

Row = dict[str, float]
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


def judge_labels(predicted: Sequence[Prediction], truth: Mapping[str, Any], values: Sequence[int], sure: float) -> Row:
    """Return the shares of a threshold, means over the scans.

    Args:
        predicted: scans with their prediction.
        truth: case -> file of its label.
        values: of the labels, background first.
        sure: probability under which a voxel is left open.

    Returns:
        `open`, of all voxels; `open inside`, of the structures' true voxels; `caught`, of the wrong voxels that are
        left open; `dice`, the mean over the structures of what is not left open.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for one in predicted:
            write_pseudo_label(one, values, sure, Path(folder, "label.nii.gz"))
            found = np.asarray(nibabel.load(Path(folder, "label.nii.gz")).dataobj)
            plain, true = (read_label(file).array for file in (one.label, truth[one.case]))
            kept, wrong = found < len(values), plain != true
            dice = [
                2 * np.sum((plain == value) & (true == value) & kept)
                / max(np.sum((plain == value) & kept) + np.sum((true == value) & kept), 1)
                for value in values[1:]
            ]  # fmt: skip
            inside = true != values[0]
            rows.append(
                (np.mean(~kept), np.mean(~kept[inside]), np.sum(wrong & ~kept) / max(wrong.sum(), 1), np.mean(dice))
            )
    return dict(zip(("open", "open inside", "caught", "dice"), map(float, np.mean(rows, axis=0)), strict=True))


def print_thresholds(arguments: argparse.Namespace, content: Datalist) -> None:
    """Print a row for each threshold of `--sure`, as Markdown."""
    listed = read_datalist(arguments.dataset, arguments.truth)
    truth = {case["case"]: case["label"] for case in listed.training if "label" in case}
    predicted = find_predictions([case for case in listed.training if case["case"] in truth], arguments.predictions)
    print(f"{len(predicted)} scans\n\n| sure | left open | inside | wrong voxels that are | Dice of the rest |")
    print("|---|---|---|---|---|")
    for sure in arguments.sure:
        row = judge_labels(predicted, truth, list(content.labels), sure)
        cells = [f"{row['open']:.2%}", f"{row['open inside']:.1%}", f"{row['caught']:.1%}", f"{row['dice']:.3f}"]
        print("| " + " | ".join([f"{sure:g}", *cells]) + " |", flush=True)


def numbers(text: str) -> list[float]:
    return [float(word) for word in text.split(",")]


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=place, required=True, help="folder with dataset.json")
    parser.add_argument("--datalist", default="dataset.json", help="whose training cases with a label are learnt from")
    parser.add_argument("--predictions", type=place, required=True, help="of inference.json on the other scans")
    parser.add_argument("--work", type=place, required=True, help="folder of everything that is made")
    environment = os.environ.get("NNUNET_ENVIRONMENT")
    parser.add_argument("--environment", type=place, default=environment, help="with nnunetv2; or NNUNET_ENVIRONMENT")
    parser.add_argument("--cpu-seconds", type=float, default=240, help="of each training")
    parser.add_argument("--spacing", type=numbers, help="mm of nnU-Net's plan, as 2,2,2; default: its own")
    parser.add_argument("--sure", type=numbers, default=[0, 0.9], help="probabilities, default 0,0.9")
    parser.add_argument("--drop-doubtful", action="store_true", help="leave out what the review says to look at")
    parser.add_argument(
        "--truth", metavar="FILE", help="datalist with the predicted scans' labels: judge these, no more"
    )
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args(words)
    arguments.work = Path(arguments.work)
    content = read_datalist(arguments.dataset, arguments.datalist)
    if arguments.truth is not None:
        print_thresholds(arguments, content)
        return
    if arguments.environment is None:
        parser.error("--environment: wanted a virtual environment with nnunetv2")
    rows = {ALONE: None, **{f"pseudo labels, sure {sure:g}": sure for sure in arguments.sure}}
    results = []
    for row, sure in rows.items():
        results.append(run(arguments, content, row, sure))
        print_table(results)


if __name__ == "__main__":
    main()
