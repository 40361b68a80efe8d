"""Turn the results of `benchmarks.few_label` into Markdown tables with paired tests.

python -m benchmarks.few_label_table results.json
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

from .one_shot_table import mean, paired


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results")
    arguments = parser.parse_args()
    rows = json.loads(Path(arguments.results).read_text(encoding="utf-8"))["rows"]
    found: dict[Any, dict[str, list[dict]]] = defaultdict(lambda: defaultdict(list))
    for row in sorted(rows, key=lambda row: row["draw"]):
        found[row["labels"]][row["row"]].append(row)
    for labels, by_name in sorted(found.items(), key=lambda item: item[0] or math.inf):
        print(f"\n**{labels or 'all'} labels**\n")
        print(
            "| row | Dice by draw | Dice | min | HD95 mm | cleaned | cleaned HD95 | CPU-s | against the same without |"
        )
        print("|---|---|---|---|---|---|---|---|---|")
        for name, draws in by_name.items():
            print(line(name, draws, by_name.get(name.split(" + ")[0], []) if " + " in name else []))
        for name, draws in by_name.items():
            for title in prompts(draws):
                asked = [case for row in draws for case in row["cases"] if title in case]
                own, theirs = ([case[key] for case in asked] for key in ("dice", title))
                print(
                    f"\n{name}: {title} {mean(theirs):.3f} on {len(asked)} cases, the specialist {mean(own):.3f} there"
                )


def line(name: str, draws: list[dict], without: list[dict]) -> str:
    """Return a row of the table; it is tested against the draws that both have."""

    def column(key: str, among: list[dict] = draws) -> list[float]:
        return [case[key] for row in among for case in row["cases"]]

    each = " / ".join(f"{mean(column('dice', [row])):.3f}" for row in draws)
    spent = mean([row["cost"]["train"] for row in draws])
    shared = {row["draw"] for row in without} & {row["draw"] for row in draws}
    versus = ""
    if shared:
        pair = [column("dice", [row for row in group if row["draw"] in shared]) for group in (draws, without)]
        versus = paired(*pair)
    numbers = [mean(column("dice")), min(column("dice")), mean(column("hd95"))]
    cleaned = [mean(column("cleaned dice")), mean(column("cleaned hd95"))]
    return (
        f"| {name} | {each} | {numbers[0]:.3f} | {numbers[1]:.3f} | {numbers[2]:.1f} | {cleaned[0]:.3f} "
        f"| {cleaned[1]:.1f} | {spent:.0f} | {versus} |"
    )


def prompts(draws: list[dict]) -> list[str]:
    """Return the columns that hold a generalist's own Dice."""
    keys = dict.fromkeys(key for row in draws for case in row["cases"] for key in case)
    return [key for key in keys if key.endswith(" dice") and key != "cleaned dice"]


if __name__ == "__main__":
    main()
