"""All regimes on one axis: minutes of annotation, and the Dice that they bring on the same test scans.

    python -m benchmarks.label_efficiency run DIR --work W [--draw 0] [--rows rrl_medsam:1,ada_sam:20]
    python -m benchmarks.label_efficiency run DIR --work W --environment NNUNET_VENV      with nnU-Net's rows
    python -m benchmarks.label_efficiency table W [W ...] [--minutes_per_volume 30 ...] [--plot FILE] [--json FILE]
    python -m benchmarks.label_efficiency table              the same of what docs/label_efficiency.md is made of

A row is a bundle by its command with its defaults, but for what `--set` says, and what it learns from: so many whole
volumes, so many slices with masks beside presence bits on all, or bits alone. The plain UNet of the same volumes is a
row by itself, and nnU-Net learns from them for as long as the bundle took. Draws are nested. Bits are derived from the
masks, which the datalist of bits alone doesn't have. Runs that are done are not run again. `table` prices what was
drawn and says which row to use with how many minutes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from common.data.datalist import Datalist, read_datalist
from common.data.selection import few_labeled
from common.files.atomic_write import write_atomic
from common.files.json_file import read_json
from common.launch.words import place
from common.scoring.compared import PLAIN
from common.scoring.metrics import percent, share_under
from tools import slice_labels
from tools.advising.annotation import MINUTES, Annotation, Prices, minutes
from tools.advising.choice import BUDGETS, Option, best
from tools.advising.evidence import read_measured

from . import clinical
from .clinical import RESULT, names, run_bundle, write_result
from .structures import DICE, mean_of_cases

VOLUMES, SLICES, BITS = "volumes", "slices", "bits"
NAMED = {"rrl_medsam": "atlas", "semisam_plus": "labeled", "sam_adapters": "labeled"}  # setting of the labelled cases
REGIMES = {**dict.fromkeys(NAMED, VOLUMES), "ada_sam": SLICES, "weakmedsam": BITS}
ROWS = "rrl_medsam:1,semisam_plus:1,semisam_plus:2,semisam_plus:4,semisam_plus:8,ada_sam:10,ada_sam:20,weakmedsam:0"
UNET = "plain UNet"
FILES = {SLICES: "bits_and_masks.json", BITS: "bits.json"}


def write_datalists(dataset: Path, work: Path) -> int:
    """Write the datalists of slices and of bits beside the runs; return how many slices have bits."""
    content = read_datalist(dataset)
    for regime, file in FILES.items():
        if not (work / file).is_file():
            kept = ["--keep-labels"] if regime == SLICES else []
            if slice_labels.main([str(dataset), "--output", str(work.absolute() / file), *kept]):
                raise SystemExit(f"{dataset}: no bits could be derived, see above")
    listed = read_json(work / FILES[BITS], "a datalist")["training"]
    first = str(min(value for value in content.labels if value))
    told = [entry["slice_labels"]["labels"] for entry in listed if "slice_labels" in entry]
    return sum(len(labels[first] or next(filter(None, labels.values()), [])) for labels in told)


def run(arguments: argparse.Namespace, content: Datalist, bundle: str, count: int, bits: int) -> dict[str, Any]:
    """Return the result of a bundle with so many volumes or slices; one that is there is read."""
    work = arguments.work / f"{bundle}_{count}_draw_{arguments.draw}"
    if not (work / RESULT).is_file():
        regime, given = REGIMES[bundle], [f"seed={arguments.draw}"]
        if regime == VOLUMES:
            drawn, _ = few_labeled(content, count, arguments.draw)
            given.append(f"{NAMED[bundle]}={','.join(names(drawn))}")
        else:
            given.append(f"datalist={(arguments.work / FILES[regime]).absolute()}")
            given += [f"num_label_slices={count}"] if regime == SLICES else []
        own = [word.split(":", 1)[1] for word in arguments.set if word.startswith(f"{bundle}:")]
        settings = {"bundle": bundle, "work": work, "set": [*given, *own], "dataset": arguments.dataset}
        work.mkdir(parents=True, exist_ok=True)
        result = run_bundle(argparse.Namespace(**{**vars(arguments), **settings}))
        drawn_by = {VOLUMES: Annotation(volumes=count), SLICES: Annotation(slices=count, bits=bits)}
        told = {"annotation": asdict(drawn_by.get(regime, Annotation(bits=bits))), "draw": arguments.draw}
        about = {"dataset": content.name, "structures": len(content.labels) - 1}
        write_result(work / RESULT, {**result, **told, **about, "own_settings": own})
    return read_json(work / RESULT, "a result")


def run_nnunet(arguments: argparse.Namespace, bundle: str, count: int) -> None:
    """Train nnU-Net on a bundle's labelled volumes for its CPU time; a result that is there stays."""
    of_bundle = arguments.work / f"{bundle}_{count}_draw_{arguments.draw}"
    work = arguments.work / f"nnunet_{count}_draw_{arguments.draw}"
    if not (work / RESULT).is_file():
        words = ["nnunet", "--run", str(of_bundle), "--dataset", str(arguments.dataset), "--work", str(work)]
        words += ["--environment", str(arguments.environment), "--threads", str(arguments.threads)]
        clinical.main([*words, "--configuration", "3d_fullres"])
        beside = read_json(of_bundle / RESULT, "a result")
        told = {key: beside[key] for key in ("annotation", "draw", "dataset", "structures")}
        write_result(work / RESULT, {**read_json(work / "3d_fullres.json", "a result"), **told, "row": "nnU-Net"})


def read_results(folders: Iterable[Path]) -> list[dict[str, Any]]:
    """Return all results below the folders; a plain UNet that stands beside a bundle's whole volumes is one more."""
    found = []
    for folder in folders:
        for file in sorted(folder.glob(f"*/{RESULT}")):
            result = read_json(file, "a result")
            found.append(result)
            if any(PLAIN.column in row for row in result["rows"]):
                rows = [{**row, DICE: row.get(PLAIN.column)} for row in result["rows"]]
                known = {key: result[key] for key in ("draw", "dataset", "structures")}
                drawn = {**result["annotation"], "bits": 0}  # it has no use for bits
                found.append({**known, "annotation": drawn, "row": UNET, "rows": rows, "cpu_seconds": None})
    if not found:
        raise SystemExit(f"{', '.join(map(str, folders))}: found no {RESULT}; wanted --work of `label_efficiency run`")
    return found


def summarised(results: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return an entry for each data set, row and annotation: mean Dice over draws and test scans, share under .70."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for result in results:
        drawn = tuple(sorted(result["annotation"].items()))
        groups.setdefault((result["dataset"], result["structures"], result["row"], drawn), []).append(result)
    found = []
    for (dataset, structures, row, drawn), same in groups.items():
        unique = {result["draw"]: list(mean_of_cases(result["rows"]).values()) for result in same}
        means = [float(np.mean(dice)) for dice in unique.values()]
        cost = [result["cpu_seconds"] for result in same if result["cpu_seconds"] is not None]
        found.append({
            "dataset": dataset, "structures": structures, "row": row, "annotation": dict(drawn),
            "draws": len(means), "dice": float(np.mean(means)), "worst_draw": min(means),
            "under": share_under([dice for run in unique.values() for dice in run]),
            "cases": len(next(iter(unique.values()))), "cpu_seconds": float(np.mean(cost)) if cost else None,
            "source": "benchmarks.label_efficiency",
        })  # fmt: skip
    return found


def options(entries: Iterable[Mapping[str, Any]], prices: Prices) -> list[Option]:
    """Return the entries with their price, cheapest first."""
    priced = [
        Option(entry["row"], drawn, drawn.minutes(prices, entry["structures"]), {entry["dataset"]: entry["dice"]})
        for entry in entries
        for drawn in [Annotation(**entry["annotation"])]
    ]
    return sorted(priced, key=lambda option: (option.minutes, option.row))


def print_table(entries: Sequence[Mapping[str, Any]], prices: Prices) -> None:
    """Print a table for each data set, cheapest first, and what to use with how many minutes, as Markdown."""
    print(prices.said())
    for dataset in dict.fromkeys(entry["dataset"] for entry in entries):
        own = [entry for entry in entries if entry["dataset"] == dataset]
        by_row = {(entry["row"], Annotation(**entry["annotation"])): entry for entry in own}
        print(f"\n| {dataset}: minutes | drawn | row | Dice | worst draw | under .70 | draws | CPU-s | from |")
        print("|---|---|---|---|---|---|---|---|---|")
        found = options(own, prices)
        for option in found:
            entry = by_row[option.row, option.annotation]
            cost = "" if entry.get("cpu_seconds") is None else f"{entry['cpu_seconds']:.0f}"
            under = percent(entry["under"]) if "under" in entry else ""
            cells = [minutes(option.minutes), option.annotation.said(), option.row, f"{entry['dice']:.3f}"]
            cells += [f"{entry['worst_draw']:.3f}", under, str(entry["draws"]), cost, entry["source"]]
            print("| " + " | ".join(cells) + " |")
        print(f"\n| {dataset}: with | use | Dice |\n|---|---|---|")
        for budget in BUDGETS:
            chosen = best(found, budget)
            if chosen:
                dice = chosen[0].dice[dataset]
                said = " or ".join(f"{option.row}, {option.annotation.said()}" for option in chosen)
                print(f"| {minutes(budget)} | {said} | {dice:.3f} |")


def plot(entries: Sequence[Mapping[str, Any]], prices: Prices, file: Path) -> None:
    """Draw Dice over minutes, a panel for each data set, a line for each row, and write it as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    sets = list(dict.fromkeys(entry["dataset"] for entry in entries))
    figure, axes = plt.subplots(1, len(sets), figsize=(4.5 * len(sets) + 2.2, 3.6), squeeze=False, sharey=True)
    lines = sorted({entry["row"] for entry in entries})
    for axis, dataset in zip(axes[0], sets, strict=True):
        for number, row in enumerate(lines):
            own = [entry for entry in entries if entry["dataset"] == dataset and entry["row"] == row]
            points = sorted((option.minutes, option.dice[dataset]) for option in options(own, prices))
            axis.plot(*zip(*points, strict=True), marker="o", color=f"C{number}", label=row) if points else None
        axis.set(xscale="log", xlabel="minutes of annotation", title=dataset)
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("Dice, test scans")
    shown = {text: line for axis in axes[0] for line, text in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(shown.values(), shown.keys(), loc="center right", frameon=False)
    figure.tight_layout(rect=(0, 0, 1 - 1.7 / figure.get_figwidth(), 1))
    figure.savefig(file, dpi=110)
    plt.close(figure)
    print(file)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="train what is missing")
    running.add_argument("dataset", type=place, metavar="DIR", help="folder with dataset.json")
    running.add_argument("--work", type=place, required=True, help="folder of everything that is made")
    running.add_argument("--draw", type=int, default=0, help="seed of the draw, and of the runs")
    running.add_argument("--rows", default=ROWS, help="BUNDLE:COUNT of volumes or slices, 0 for bits alone")
    running.add_argument("--set", action="append", default=[], metavar="BUNDLE:KEY=VALUE", help="that is no default")
    running.add_argument("--environment", type=place, help="virtual environment with nnunetv2")
    running.add_argument("--threads", type=int, default=1)
    table = commands.add_parser("table", help="price and compare what was run")
    table.add_argument("work", type=place, nargs="*", help="--work of runs; default: what was measured before")
    for what, price in MINUTES.items():
        table.add_argument(f"--minutes_per_{what}", type=float, default=price, help=f"a structure, default {price:.3g}")
    table.add_argument("--plot", type=place, metavar="FILE", help="PNG to write")
    table.add_argument("--json", type=place, metavar="FILE", help="of what was measured, for tools.advise")
    given = parser.parse_args(words)
    if given.command == "table":
        prices = Prices(**{what: getattr(given, f"minutes_per_{what}") for what in MINUTES})
        entries = summarised(read_results(given.work)) if given.work else read_measured()
        print_table(entries, prices)
        if given.plot:
            plot(entries, prices, given.plot)
        if given.json:
            write_atomic(given.json, json.dumps(entries, indent=1) + "\n")
        return
    given.work.mkdir(parents=True, exist_ok=True)
    content, bits = read_datalist(given.dataset), write_datalists(given.dataset, given.work)
    for word in given.rows.split(","):
        bundle, _, count = word.partition(":")
        run(given, content, bundle, int(count), bits)
        if given.environment and bundle == "semisam_plus":
            run_nnunet(given, bundle, int(count))


if __name__ == "__main__":
    main()
