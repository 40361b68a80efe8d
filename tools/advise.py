"""Say which bundle a data set can train now, and what to draw next with the minutes that there are.

    python -m tools.advise DIR                        DIR/dataset.json, or a folder of scans
    python -m tools.advise DIR --minutes 45,90        other budgets than 15 minutes to 8 hours
    python -m tools.advise DIR --minutes_per_volume 12 --minutes_per_slice .5

No image's voxels and no label are opened: headers and the datalist say what there is. What a way of annotating brings
is what it brought on the data sets of docs/label_efficiency.md: an order to begin with, no promise for other scans.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from common.data.datalist import Datalist
from common.data.presence import AXES, foreground_values, ras_axes
from common.errors import InputError, plain_input_errors, printable
from common.launch.words import items, number, place
from common.volumes.read import check_channels, count_channels
from common.volumes.volume import Unreadable

from .advising.annotation import MINUTES, Prices, minutes
from .advising.choice import BUDGETS, Option, best
from .advising.evidence import Given, options, read_measured
from .propose_volumes import read_scans

# row of the tables -> its command beside `--dataset_dir DIR`; other rows are no bundle of ours
COMMANDS = {
    "rrl_medsam": "bundles/rrl_medsam/configs/train.json --atlas CASE",
    "semisam_plus": "bundles/semisam_plus/configs/train.json --num_labeled {volumes}",
    "sam_adapters": "bundles/sam_adapters/configs/train.json --num_labeled {volumes}",
    "ada_sam": "bundles/ada_sam/configs/train.json",
    "weakmedsam": "bundles/weakmedsam/configs/train.json",
}
ELSEWHERE = {"plain UNet": "any UNet of MONAI's", "nnU-Net": "nnU-Net itself"}
NEXT = {
    "volumes": "python -m tools.propose_volumes DIR says on which scans",
    "slices": "python -m tools.propose_slices DIR says on which slices",
    "bits": "docs/data.md says how bits are written (slice_labels)",
}


def look(content: Datalist, axis: str) -> Given:
    """Return what the scans have, by the datalist and the headers.

    Raises:
        InputError: one line for each header that can't be read.
    """
    cases, slices, problems = content.training + content.unlabeled, {}, []
    for case in cases:
        try:
            shape, affine = check_channels(case["image"], count_channels(case["image"]))
            slices[case["case"]] = int(shape[ras_axes(affine).index(AXES.index(axis))])
        except (Unreadable, OSError) as error:
            problems.append(f"{case['image']}: {error}")
    if problems:
        raise InputError(problems)
    return Given(
        structures=len(foreground_values(content.labels)),
        scans=len(cases),
        slices=sum(slices.values()),
        volumes=sum("label" in case and "known_labels" not in case for case in content.training),
        bits=sum(slices[case["case"]] for case in content.training if case.get("slice_labels") is not None),
    )


def said(option: Option) -> str:
    """Return an option in words: "semisam_plus, 4 volumes"."""
    return f"{option.row}, {option.annotation.said()}"


def command(option: Option) -> str:
    """Return what is typed to train it; for what is no bundle of ours its name."""
    if option.row not in COMMANDS:
        return ELSEWHERE.get(option.row, option.row)
    config = COMMANDS[option.row].format(volumes=option.annotation.volumes)
    return f"python -m monai.bundle run --config_file {config} --dataset_dir DIR"


def print_table(found: Sequence[Option], budgets: Sequence[float], sets: Sequence[str]) -> None:
    """Print, for now and for each budget, the best option and those level with it."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in ("minutes", "use", *sets):
        table.add_column(Text(printable(title)), justify="left" if title == "use" else "right")
    for budget in (0, *budgets):
        chosen = best(found, budget)
        for place_, option in enumerate(chosen or [None]):
            name = "" if place_ else minutes(budget) if budget else "now"
            if option is None:
                table.add_row(name, "nothing yet: wanted more minutes, or more scans")
                continue
            dice = [f"{option.dice[one]:.2f}" if one in option.dice else "" for one in sets]
            table.add_row(name, f"{'or ' * bool(place_)}{said(option)} ({minutes(option.minutes)})", *dice)
    Console().print(table)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.advise", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=place, metavar="DIR", help="folder with a dataset.json, or of scans")
    parser.add_argument("--datalist", default="dataset.json", metavar="FILE", help="to read, default dataset.json")
    parser.add_argument("--minutes", metavar="N,N", help=f"of annotation, default {','.join(map(str, BUDGETS))}")
    parser.add_argument("--axis", choices=AXES, default="axial", help="of slices with bits, default axial")
    for what, price in MINUTES.items():
        parser.add_argument(f"--minutes_per_{what}", default=price, help=f"a structure, default {price:.3g}, assumed")
    given = parser.parse_args(arguments)
    prices = Prices(**{w: number(f"minutes_per_{w}", getattr(given, f"minutes_per_{w}"), least=0) for w in MINUTES})
    budgets: list[Any] = sorted(number("minutes", word, least=0) for word in items(given.minutes or BUDGETS))
    content = read_scans(given.directory, given.datalist)
    has = look(content, given.axis)
    measured = read_measured()
    found = options(measured, has, prices)
    sets = list(dict.fromkeys(entry["dataset"] for entry in measured))
    bits = f", {has.bits} of {has.slices} slices with presence bits" if has.bits else ""
    print(f"{printable(content.name)}: {has.scans} scans, {has.volumes} with a whole mask{bits}")
    print(f"structures: {has.structures}; {prices.said()}")
    print_table(found, budgets, sets)
    chosen = [option for budget in (0, *budgets) for option in best(found, budget)[:1]]
    lacking = {
        kind for option in chosen if (left := has.lacks(option.annotation)) for kind in NEXT if getattr(left, kind)
    }
    for line in dict.fromkeys(command(option) for option in chosen):
        print(line)
    for kind in lacking:
        print(NEXT[kind])
    known = ", ".join(printable(one) for one in sets)
    print(f"Dice as measured on {known}: an order to begin with, no promise for these scans")
    return 0


if __name__ == "__main__":
    plain_input_errors()
    sys.exit(main())
