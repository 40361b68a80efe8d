"""Turn the results of `benchmarks.one_shot` into a Markdown table with paired tests.

python -m benchmarks.one_shot_table results.json
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from benchmarks.tables import wilcoxon_paired

REFERENCE = "propagation: instance"


def mean(scores: list[float]) -> float:
    return statistics.fmean(scores)


def paired(first: list[float], second: list[float]) -> str:
    """Return difference, wins and p (Wilcoxon signed rank) of first against second, case by case."""
    found = wilcoxon_paired(first, second)
    return f"{found['mean_difference']:+.3f}, {found['wins']}/{found['n']}, p={found['p']:.2g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results")
    parser.add_argument("--metric", default="dice+intensity", help="column that is compared; +intensity: refined alike")
    parser.add_argument("--atlas", action="append", help="only this one; may be given several times")
    arguments = parser.parse_args()
    results = json.loads(Path(arguments.results).read_text(encoding="utf-8"))
    atlases = {name: atlas for name, atlas in results["atlases"].items() if name in (arguments.atlas or [name])}
    names = list(dict.fromkeys(row for atlas in atlases.values() for row in atlas["rows"]))
    complete = [name for name in names if all(name in atlas["rows"] for atlas in atlases.values())]

    def column(name: str, key: str) -> list[float]:
        return [score[key] for atlas in atlases.values() for score in atlas["rows"][name]]

    print(
        "| row | Dice by atlas | Dice | + intensity | min | HD95 mm | ASSD mm | CPU-s | against instance optimisation |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name in complete:
        each = " / ".join(f"{mean([s['dice'] for s in atlas['rows'][name]]):.3f}" for atlas in atlases.values())
        cost = [atlas["costs"].get(name) for atlas in atlases.values()]
        spent = f"{mean([c for c in cost if c is not None]):.0f}" if any(cost) else ""
        versus = (
            "" if name == REFERENCE else paired(column(name, arguments.metric), column(REFERENCE, arguments.metric))
        )
        print(
            f"| {name} | {each} | {mean(column(name, 'dice')):.4f} | {mean(column(name, 'dice+intensity')):.4f} "
            f"| {min(column(name, 'dice')):.3f} | {mean(column(name, 'hd95')):.2f} | {mean(column(name, 'assd')):.2f} "
            f"| {spent} | {versus} |"
        )
    print()
    for name in complete:
        if name not in ("full", REFERENCE) and not name.startswith("propagation") and "full" in complete:
            print(f"- {name} against full: {paired(column(name, 'dice'), column('full', 'dice'))}")
    for key in ("dice+tta", "dice+tta+intensity", "dice of guided propagation"):
        if "full" in complete and key in atlases[next(iter(atlases))]["rows"]["full"][0]:
            versus = paired(column("full", key), column("full", "dice"))
            print(f"- full, {key}: {mean(column('full', key)):.4f}; against raw {versus}")
    for name in complete:
        if name.startswith("propagation"):
            print(f"- {name}: folding {mean(column(name, 'folding')):.4f} %")
    for name, atlas in atlases.items():
        print(f"- costs in CPU seconds, atlas {name}: " + ", ".join(f"{k} {v}" for k, v in atlas["costs"].items()))


if __name__ == "__main__":
    main()
