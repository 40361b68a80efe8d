"""Bring a data set from another layout to a folder with dataset.json, and from there to nnU-Net's.

    python tools/datasets.py oasis SOURCE DIR            neurite-oasis v1.0: OASIS_OAS1_*_MR1/aligned_norm.nii.gz
    python tools/datasets.py la SOURCE DIR               LA 2018: the h5 release of UA-MT, or the nrrd folders
    python tools/datasets.py hippocampus SOURCE DIR      MSD Task04 as published
    python tools/datasets.py nnunet SOURCE DIR           a raw data set of nnU-Net; other scans in imagesUn
    python tools/datasets.py totalsegmentator SOURCE DIR folders of one mask a structure
    python tools/datasets.py to_nnunet SOURCE DIR        our data set, and predictions as labels, for nnU-Net

DIR gets imagesTr, labelsTr, imagesTs, labelsTs and dataset.json; SOURCE stays as it is. Files are hard links to
those of SOURCE: they take no space, but a change to one is a change to both (--copy makes copies; another disk gets
copies anyway), because the paths of a datalist may not lead out of its folder. h5 files, and the nrrd files of LA 2018,
are converted to NIfTI. An existing DIR/dataset.json is never overwritten. `DATASET --help` says what can be chosen.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tools.layouts.dataset import Published

UNLABELED = "unlabeled"  # what --ignored can make of a case whose mask leaves voxels open


def read(given: argparse.Namespace) -> Published:
    """Read the data set that the command line names, in its layout."""
    from tools.layouts import nnunet, published, totalsegmentator

    readers: dict[str, Callable[[], Published]] = {
        "oasis": lambda: published.read_oasis(given.source, given.labels),
        "la": lambda: published.read_la(given.source),
        "hippocampus": lambda: published.read_hippocampus(given.source),
        "nnunet": lambda: nnunet.read_nnunet(given.source, given.ignored == UNLABELED),
        "totalsegmentator": lambda: totalsegmentator.read_totalsegmentator(
            given.source, given.images, words(given.structures), given.modality, given.shared
        ),
    }
    return readers[given.dataset]()


def words(text: str | None) -> list[str] | None:
    """Return the words of `a,b,c`; None stays."""
    return None if text is None else [word.strip() for word in text.split(",") if word.strip()]


def convert(given: argparse.Namespace) -> list[str]:
    """Do what the command line says; return what became of it, in lines."""
    if given.dataset == "to_nnunet":
        from tools.layouts.export import export_nnunet

        labeled, doubtful = words(given.labeled), given.drop_doubtful
        return export_nnunet(
            given.source, given.directory, given.datalist, given.predictions, given.sure, labeled, doubtful, given.copy
        )
    from common.data.datalist import read_datalist
    from tools.layouts.dataset import split, write_dataset
    from tools.layouts.published import HELD_OUT

    validation, test = HELD_OUT.get(given.dataset, (0, 0))
    validation = validation if given.validation is None else given.validation
    test = test if given.test is None else given.test
    found = read(given)
    parts = split(found, validation, test, given.seed)
    write_dataset(found, parts, given.directory, given.copy)
    read_datalist(given.directory)
    counts = ", ".join(f"{len(cases)} {part}" for part, cases in parts.items() if cases)
    return [f"{counts}; held out with seed {given.seed}"]


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    from common.launch.words import place
    from tools.layouts.published import HELD_OUT

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="dataset", required=True, metavar="DATASET")
    for name in ("oasis", "la", "hippocampus", "nnunet", "totalsegmentator", "to_nnunet"):
        command = commands.add_parser(name)
        command.add_argument("source", type=place, metavar="SOURCE", help="folder of the unpacked data set")
        command.add_argument("directory", type=place, metavar="DIR", help="folder to write, made where missing")
        command.add_argument("--copy", action="store_true", help="copy files instead of hard links")
        if name == "to_nnunet":
            continue
        defaults = HELD_OUT.get(name, (0, 0))
        command.add_argument("--validation", type=int, metavar="N", help=f"cases to hold out, default {defaults[0]}")
        command.add_argument(
            "--test", type=int, metavar="N", help=f"default {defaults[1]}; not used where the layout has test cases"
        )
        command.add_argument("--seed", type=int, default=0, help="of the split, default 0")
    chosen = commands.choices
    chosen["oasis"].add_argument("--labels", choices=["seg35", "seg4"], default="seg35", help="default seg35")
    chosen["nnunet"].add_argument(
        "--ignored", choices=[UNLABELED], help="what a case with ignored voxels becomes; else it is an error"
    )
    add = chosen["totalsegmentator"].add_argument
    add("--images", type=place, metavar="FOLDER", help="of CASE.nii.gz, where no image lies beside the masks")
    add("--structures", metavar="A,B", help="those to take, in the order of their values; default all")
    add("--modality", metavar="CT", help="of the images, where their names don't say it")
    add("--shared", type=float, default=0.05, metavar="SHARE", help="of a structure that others may hold, default .05")
    add = chosen["to_nnunet"].add_argument
    add("--datalist", default="dataset.json", metavar="FILE", help="to read, default dataset.json")
    add("--predictions", type=place, metavar="RESULTS", help="of inference.json, on the scans without a label")
    add("--sure", type=float, default=0.9, metavar="P", help="probability under which a voxel is ignored, default .9")
    add("--labeled", metavar="CASE,CASE", help="training cases whose label is taken; default all that have one")
    add("--drop-doubtful", action="store_true", help="leave out predictions that RESULTS/review.csv says to look at")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status: 0, or 1 after one line for each problem."""
    given = build_parser().parse_args(arguments)

    from common.errors import InputError, printable

    target = given.directory / "dataset.json"
    try:
        if not given.source.is_dir():
            raise InputError(f"{given.source}: no such folder; wanted the unpacked data set")
        if target.exists():
            raise InputError(f"{target}: already there; wanted a DIR without a dataset.json")
        lines = convert(given)
    except InputError as error:
        print(*(f"error: {line}" for line in error.problems), sep="\n", file=sys.stderr)
        return 1
    except OSError as error:
        where = error.filename or given.directory
        print(f"error: {printable(where)}: {error.strerror or error}", file=sys.stderr)
        return 1
    print(*(f"{target}: {line}" for line in lines), sep="\n")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `common`
    sys.exit(main())
