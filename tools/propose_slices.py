"""Say which slices of a data set to draw masks on, from the presence bits of its slices alone.

    python -m tools.propose_slices DIR                        20 slices of DIR/dataset.json -> DIR/dataset_proposed.json
    python -m tools.propose_slices DIR --num-label-slices 50  another budget
    python -m tools.propose_slices DIR --draw-from-middle 1   anywhere in a structure, not from its middle first

The patients take turns, and each gives a slice of the label that was asked for least often so far, from the inner half
of its slices: at its ends a structure is small and says little (docs/few_slices.md). The written datalist names these
slices (`label_slices`), and for each case the file that the masks go into. Its other slices may stay empty; nobody
looks at them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

DEFAULT_OUTPUT = "dataset_proposed.json"
COUNT, MIDDLE = 20, 0.5
FOLDER = "labelsTr"  # of the masks to draw, where a case has none yet


def propose(cohort: Any, count: int, middle: float = MIDDLE, seed: int = 0) -> dict[str, list[int]]:
    """Return case -> indices of the slices to draw masks on, as stored, sorted; cases without any are left out.

    Args:
        cohort: has `slice_labels`, see `PresenceCohort`.
        count, middle, seed: see `draw_label_slices`.

    Raises:
        InputError: `count` is no number from 1 to that of the positive slices, or `middle` is no share.
    """
    from common.slices.masked_slices import draw_label_slices

    bits = {case: found.bits for case, found in cohort.slice_labels.items()}
    proposed: dict[str, list[int]] = {}
    for case, index in draw_label_slices(bits, count, seed, middle=middle):
        proposed.setdefault(case, []).append(index)
    return {case: sorted(proposed[case]) for case in bits if case in proposed}


def add_proposed(content: Mapping[str, Any], ids: list[str], proposed: Mapping[str, list[int]]) -> dict[str, Any]:
    """Return a datalist, as parsed, whose training cases have the proposed slices and no others, and files for masks.

    Args:
        content: as parsed. ids: of its training cases, in their order.
    """
    training = []
    for given, case in zip(content["training"], ids, strict=True):
        entry = {key: value for key, value in given.items() if key != "label_slices"}
        if case in proposed:
            entry.setdefault("label", f"{FOLDER}/{PurePosixPath(given['image']).name}")
            entry["label_slices"] = proposed[case]
        training.append(entry)
    return {**content, "training": training}


def describe(cohort: Any, proposed: Mapping[str, list[int]]) -> list[dict[str, str]]:
    """Return a row for each case: its slices as stored, where these are in mm, and what is on them."""
    import numpy as np

    from common.data.presence import AXES, foreground_values, ras_axes
    from common.volumes.read import read_geometry

    images = {case["case"]: case["image"] for case in cohort.cases}
    values = foreground_values(cohort.labels)
    rows = []
    for case, indices in proposed.items():
        shape, affine = read_geometry(images[case])
        found = cohort.slice_labels[case]
        along = ras_axes(affine)[found.axis]
        centre = (np.asarray(shape[:3]) - 1) / 2
        places = []
        for index in indices:
            centre[found.axis] = index
            places.append(f"{(affine @ [*centre, 1])[along]:.1f}")
        named = [cohort.labels[v] for row, v in enumerate(values) if found.bits[row, indices].any()]
        rows.append(
            {
                "case": case,
                f"{AXES[along]} slices, counted from 0 as stored": ", ".join(map(str, indices)),
                "at (mm)": ", ".join(places),
                "with": ", ".join(named),
            }
        )
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status: 0, or 1 after one line for each problem."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from common.data.datalist import read_datalist
    from common.data.nnunet import with_lists
    from common.errors import InputError, printable
    from common.files.atomic_write import write_atomic
    from common.files.json_file import read_json
    from common.launch.words import place
    from common.slices.cohort import PresenceCohort

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=place, metavar="DIR", help="folder of a data set with dataset.json")
    parser.add_argument("--num-label-slices", type=int, default=COUNT, metavar="N", help=f"default {COUNT}")
    parser.add_argument(
        "--draw-from-middle", type=float, default=MIDDLE, metavar="SHARE", help=f"of a label's slices, default {MIDDLE}"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draw; the draw of 5 begins that of 20")
    parser.add_argument("--datalist", default="dataset.json", metavar="FILE", help="to read, default dataset.json")
    parser.add_argument(
        "--output", default=DEFAULT_OUTPUT, metavar="FILE", help=f"in DIR or a path, default {DEFAULT_OUTPUT}"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a datalist written before")
    given = parser.parse_args(arguments)
    try:
        datalist = read_datalist(given.directory, given.datalist)
        source = datalist.directory / given.datalist
        source = source if source.exists() else Path(given.datalist).expanduser()
        output = datalist.directory / Path(given.output).expanduser()  # an absolute path stays what it is
        if output.exists() and (output.resolve() == source.resolve() or not given.overwrite):
            raise InputError(
                f"{output}: already there; wanted another --output, or --overwrite for an earlier proposal"
            )
        cohort = PresenceCohort(given.directory, given.datalist)
        proposed = propose(cohort, given.num_label_slices, given.draw_from_middle, given.seed)
    except InputError as error:
        print(*(f"error: {line}" for line in error.problems), sep="\n", file=sys.stderr)
        return 1
    content = with_lists(read_json(source, "an MSD dataset.json"), datalist.directory, source.name)
    ids = [case["case"] for case in datalist.training]
    write_atomic(output, json.dumps(add_proposed(content, ids, proposed), indent=1) + "\n")
    table = Table(title=f"masks on {given.num_label_slices} slices of {len(proposed)} cases")
    rows = describe(cohort, proposed)
    for column in rows[0]:
        table.add_column(Text(printable(column)))
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row.values()))
    Console().print(table)
    print(f"{output}: draw these slices into the label files that it names, then train with --datalist {output}")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `common`
    sys.exit(main())
