"""Turn the results of `benchmarks.few_slices` into Markdown tables with paired tests.

python -m benchmarks.few_slices_table results.json [--against "2D UNet"]
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

from .few_slices import WITHIN
from .one_shot_table import mean, paired

STAGES = ("classify", "adapt", "slice UNet", "train")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results")
    parser.add_argument("--against", default="2D UNet", help="row, or row and way parted by ': ', to test against")
    arguments = parser.parse_args()
    rows = json.loads(Path(arguments.results).read_text(encoding="utf-8"))["rows"]
    for slices in sorted({row["slices"] for row in rows}):
        # (row, way) -> draw -> case -> scores
        found: dict[str, dict[int, list[dict]]] = defaultdict(dict)
        spent: dict[str, list[float]] = defaultdict(list)
        for row in sorted((row for row in rows if row["slices"] == slices), key=lambda row: row["draw"]):
            for key in row["cases"][0]:
                if key.endswith("dice"):
                    way = key.removesuffix("dice").strip()
                    title = f"{row['row']}: {way}" if way else row["row"]
                    scores = [{"dice": case[key], "hd95": case[key[:-4] + "hd95"]} for case in row["cases"]]
                    found[title][row["draw"]] = scores
                    stages = STAGES
                    if "adapt" in row["cost"] and way != "segmenter":
                        stages = ("slice UNet",) if way == WITHIN else ("classify", "adapt")
                    spent[title].append(sum(row["cost"].get(stage, 0) for stage in stages))
        print(f"\n**{slices} slices with masks**\n")
        print(f"| row | Dice by draw | Dice | min | HD95 mm | training CPU-s | against {arguments.against} |")
        print("|---|---|---|---|---|---|---|")
        control = found.get(arguments.against, {})
        for title, draws in found.items():
            print(line(title, draws, spent[title], {} if title == arguments.against else control))


def line(title: str, draws: dict[int, list[dict]], spent: list[float], control: dict[int, list[dict]]) -> str:
    """Return a row of the table; it is tested against the draws that both have."""
    each = " / ".join(f"{mean([case['dice'] for case in cases]):.3f}" for cases in draws.values())
    dice = [case["dice"] for cases in draws.values() for case in cases]
    distance = [case["hd95"] for cases in draws.values() for case in cases]
    shared = [draw for draw in draws if draw in control]
    versus = ""
    if shared:
        versus = paired(*([case["dice"] for draw in shared for case in group[draw]] for group in (draws, control)))
    numbers = f"{mean(dice):.3f} | {min(dice):.3f} | {mean(distance):.1f} | {mean(spent):.0f}"
    return f"| {title} | {each} | {numbers} | {versus} |"


if __name__ == "__main__":
    main()
