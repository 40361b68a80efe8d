"""Turn the results of `benchmarks.weak` into Markdown tables: pseudo labels, then segmenters.

python -m benchmarks.weak_table results.json
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

SEGMENTER = {
    "dice": "Dice",
    "hd95": "HD95 mm",
    "prior dice": "prior + bits",
    "centre dice": "centre + bits",
    "auc": "presence AUC",
    "index auc": "slice index AUC",
    "slice dice": "per-slice Dice, as published",
}


def numbers(values: list[Any]) -> list[float]:
    """Return the values that are numbers; an empty prediction has no surface distance."""
    return [float(value) for value in values if value is not None and not math.isnan(float(value))]


def mean(values: list[Any], digits: int = 3) -> str:
    """Return the mean of the numbers, or nothing where there is none."""
    found = numbers(values)
    return f"{sum(found) / len(found):.{digits}f}" if found else ""


def pseudo_label_table(rows: list[dict[str, Any]]) -> list[str]:
    """Return the lines of the table of pseudo labels, training cases, the least Dice in brackets."""
    scored = [row for row in rows if "cases" in row]
    labels = [key for key in scored[0]["cases"][0] if key != "case"] if scored else []
    head = [text for label in labels for text in (f"Dice {label}", f"HD95 {label}, mm")]
    lines = ["| pseudo labels | " + " | ".join(head) + " | CPU-s |", "|---" * (len(head) + 2) + "|"]
    for row in scored:
        cells = []
        for label in labels:
            dice = [case[label]["dice"] for case in row["cases"]]
            cells += [f"{mean(dice)} ({min(dice):.2f})", mean([case[label]["hd95"] for case in row["cases"]], 1)]
        seconds = sum(value for name, value in row["cost"].items() if name != "segment")
        lines.append(f"| {row['row']} | " + " | ".join(cells) + f" | {seconds:.0f} |")
    return lines


def segmenter_table(rows: list[dict[str, Any]]) -> list[str]:
    """Return the lines of the table of segmenters, test cases, a line for each label."""
    lines = ["| segmenter | label | " + " | ".join(SEGMENTER.values()) + " |", "|---" * (len(SEGMENTER) + 2) + "|"]
    for row in rows:
        for label in dict.fromkeys(scored["name"] for scored in row.get("test", [])):
            own = [scored for scored in row["test"] if scored["name"] == label]
            cells = [mean([scored.get(column) for scored in own], 1 if "mm" in SEGMENTER[column] else 3)
                     for column in SEGMENTER]  # fmt: skip
            cells[0] += f" ({min(numbers([scored['dice'] for scored in own])):.2f})"
            lines.append(f"| {row['row']} | {label} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results")
    results = json.loads(Path(parser.parse_args().results).read_text(encoding="utf-8"))
    print(f"{results['share']}\n")
    for table in (pseudo_label_table(results["rows"]), segmenter_table(results["rows"])):
        print("\n".join(table) + "\n")


if __name__ == "__main__":
    main()
