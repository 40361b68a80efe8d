"""Derive slice-presence bits from the masks of a data set, for research on what can be learnt without the masks.

    python -m tools.slice_labels DIR                     axial bits of DIR/dataset.json -> DIR/dataset_slices.json
    python -m tools.slice_labels DIR --axis coronal      the slices may lie along another axis in every file
    python -m tools.slice_labels DIR --axis 2            axis 0, 1 or 2 of the array, whatever its orientation
    python -m tools.slice_labels DIR --two-clicks        only the first and the last slice of each label
    python -m tools.slice_labels DIR --keep-labels       bits beside the masks, for draws of a few slices

Bits go to DIR/slice_labels/<case>.json, where a person can mend them; where the written datalist lies outside DIR, they
stand inside it and DIR stays as it is. In the written datalist no training case has a mask, so that none can be opened,
unless --keep-labels asks for them; validation and test cases keep theirs for scoring.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from common.data.datalist import Datalist
    from common.data.presence import SliceLabels

DEFAULT_OUTPUT = "dataset_slices.json"
FOLDER = "slice_labels"
ARRAY_AXES = ("0", "1", "2")


def read_bits(datalist: Datalist, axis: str) -> dict[str, SliceLabels]:
    """Open every training mask and return the bits of each case.

    Args:
        axis: "sagittal", "coronal" or "axial", which of each array's axes is nearest to it; or "0", "1", "2".

    Raises:
        InputError: one line for each training case whose image or mask is not sound, or that has no mask.
    """
    from rich.progress import track

    from common.data.checks import check_cases
    from common.data.presence import AXES, derive_slice_labels, ras_axes
    from common.data.selection import require_whole
    from common.errors import InputError
    from common.volumes.label import read_label

    problems = [
        f"{datalist.directory}: training case {case['case']} has neither a label nor slice_labels; wanted one"
        for case in datalist.training
        if "label" not in case and case.get("slice_labels") is None
    ]
    masked = [case for case in datalist.training if "label" in case]
    require_whole(masked, datalist.labels, "bits of every label")
    quiet = not sys.stderr.isatty()
    problems += check_cases(
        masked,
        datalist.labels,
        progress=lambda cases: track(cases, "checking", disable=quiet),
        dataset_dir=datalist.directory,
    )
    if problems:
        raise InputError(problems)
    bits = {}
    for case in track(masked, "deriving", disable=quiet):
        mask = read_label(case["label"])
        along = int(axis) if axis in ARRAY_AXES else ras_axes(mask.affine).index(AXES.index(axis))
        bits[case["case"]] = derive_slice_labels(mask.array, along, datalist.labels)
    return bits


def write_bits(
    content: Mapping[str, Any],
    datalist: Datalist,
    bits: Mapping[str, SliceLabels],
    output: Path,
    about: str,
    two_clicks: bool = False,
    keep_labels: bool = False,
) -> None:
    """Write the slice labels and then the datalist, each file atomically; a broken run leaves no datalist.

    Args:
        content: of the datalist they come from, as parsed.
        output: the datalist to write; slice labels become files where it lies in the data set's folder.
        about: where the bits come from; kept in the datalist as `slice_labels_source`.
        keep_labels: let the training cases keep their masks.
    """
    from common.data.presence import slice_labels_entry
    from common.files.atomic_write import write_atomic

    inside = output.resolve().is_relative_to(datalist.directory.resolve())
    training = []
    for given, case in zip(content["training"], datalist.training, strict=True):
        entry = {key: value for key, value in given.items() if keep_labels or key != "label"}
        if case["case"] in bits:
            derived = slice_labels_entry(bits[case["case"]], datalist.labels, two_clicks)
            entry["slice_labels"] = derived
            if inside:
                entry["slice_labels"] = f"{FOLDER}/{case['case']}.json"
                write_atomic(datalist.directory / entry["slice_labels"], json.dumps(derived) + "\n")
        training.append(entry)
    text = json.dumps({**content, "training": training, "slice_labels_source": about}, indent=1)
    # bits on one line; a line break within brackets is never part of a string
    text = re.sub(r"\[\n[\s01,]+\]", lambda bits: re.sub(r"\s", "", bits[0]), text)
    write_atomic(output, text + "\n")


def describe(datalist: Datalist, bits: Mapping[str, SliceLabels], two_clicks: bool) -> list[str]:
    """Return a line on the share of positive slices for each foreground label, as the written bits have it."""
    import numpy as np

    from common.data.presence import TELLING_SHARE, foreground_values

    lines = []
    for row, value in enumerate(foreground_values(datalist.labels)):
        seen = [found.bits[row] for found in bits.values()]
        # what lies between the first and the last positive slice
        filled = [np.maximum.accumulate(b) & np.maximum.accumulate(b[::-1])[::-1] for b in seen]
        gaps = sum(int((a != b).any()) for a, b in zip(seen, filled, strict=True)) if two_clicks else 0
        together = np.concatenate(filled if two_clicks else seen)
        share = float(together.mean())
        line = f"label {value} ({datalist.labels[value]}): {100 * share:.0f} % of {len(together)} slices positive"
        if gaps:
            line += f"; gaps in {gaps} cases are filled"
        if share == 0:
            line += "; nothing can be learnt of it"
        elif share > TELLING_SHARE:
            line += "; bits on nearly every slice say little"
        lines.append(line)
    return lines


def _resolve_output(output: Path, directory: Path) -> Path:
    """A bare name stands in the data set's folder, as the datalist does; anything else is a path."""
    return directory / output if output.name == str(output) else output.expanduser()


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status: 0, or 1 after one line for each problem."""
    from common.data.datalist import read_datalist
    from common.data.nnunet import with_lists
    from common.data.presence import AXES
    from common.errors import InputError, printable
    from common.files.json_file import read_json
    from common.launch.words import place

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=place, metavar="DIR", help="folder of a data set with dataset.json")
    parser.add_argument("--axis", choices=[*AXES, *ARRAY_AXES], default="axial", help="of the slices, default axial")
    parser.add_argument("--two-clicks", action="store_true", help="keep only first and last slice of each label")
    parser.add_argument("--keep-labels", action="store_true", help="let the training cases keep their masks")
    parser.add_argument("--datalist", default="dataset.json", metavar="FILE", help="to read, default dataset.json")
    parser.add_argument(
        "--output",
        type=place,
        default=Path(DEFAULT_OUTPUT),
        metavar="FILE",
        help=f"to write; a bare name stands in DIR, default {DEFAULT_OUTPUT}",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a datalist and bits written before")
    given = parser.parse_args(arguments)
    try:
        datalist = read_datalist(given.directory, given.datalist)
        source = datalist.directory / given.datalist
        source = source if source.exists() else Path(given.datalist).expanduser()
        output = _resolve_output(given.output, datalist.directory)
        if output.resolve() == source.resolve():
            raise InputError(f"{output}: is the datalist that is read; wanted another --output")
        if output.exists() and not given.overwrite:
            raise InputError(f"{output}: already there, its bits perhaps mended; wanted another name or --overwrite")
        bits = read_bits(datalist, given.axis)
        if not bits:
            raise InputError(f"{source}: no training case has a label; wanted masks to derive bits from")
        content = with_lists(read_json(source, "an MSD dataset.json"), datalist.directory, source.name)
        which = f"array axis {given.axis}" if given.axis in ARRAY_AXES else f"{given.axis} slices"
        about = f"training masks, {which}" + (", first and last slice" if given.two_clicks else "")
        write_bits(content, datalist, bits, output, about, given.two_clicks, given.keep_labels)
        read_datalist(given.directory, output.absolute())
    except InputError as error:
        print(*(f"error: {line}" for line in error.problems), sep="\n", file=sys.stderr)
        return 1
    print(*map(printable, describe(datalist, bits, given.two_clicks)), sep="\n")
    masks = "masks" if given.keep_labels else "no mask"
    print(f"{output}: {len(bits)} training cases with slice labels and {masks}; run with --datalist {output}")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `common`
    sys.exit(main())
