"""Say which scans of a data set to draw labels on, from the images alone; once a model exists, which ones next.

    python -m tools.propose_volumes DIR                    one of DIR/dataset.json, or of a folder of scans
    python -m tools.propose_volumes DIR --count 4          four that go well together
    python -m tools.propose_volumes DIR --next RESULTS     by the review that inference.json wrote into RESULTS

Scans are registered to one another on the grid that a training would plan: one whose image reaches the others well,
with little change of size and little bending, carries its label well, too (docs/one_shot.md). The written datalist has
the proposed scans in `training`, each with the file that its label goes into, and all others in `unlabeled`.

With --next, scans that have no label are ranked by (1 - predicted Dice) times the distance of their image to what has a
label or was proposed before (docs/review.md); those that have a label stay in `training`. No label is opened.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

DEFAULT_OUTPUT = "dataset_proposed_volumes.json"
FOLDER = "labelsTr"  # of the labels to draw, where a case has none yet
NAMED = {0: "background", 1: "structure"}  # of a folder of scans, until somebody says what is drawn
FEWEST = 3


def read_scans(directory: Path, datalist: str) -> Any:
    """Return a folder's datalist; one of all its scans where there is none.

    Raises:
        InputError: as `read_datalist` and `find_images`, or there are fewer than three scans.
    """
    from common.data.datalist import Datalist, read_datalist
    from common.data.inputs import find_images
    from common.errors import InputError

    if (directory / datalist).is_file() or Path(datalist).is_file() or not directory.is_dir():
        found = read_datalist(directory, datalist)
    else:
        found = Datalist(directory.name, directory.absolute(), NAMED, find_images(directory))
    count = len(found.training) + len(found.unlabeled)
    if count < FEWEST:
        raise InputError(f"{directory}: {count} scans in training and unlabeled; wanted {FEWEST} at least")
    return found


def load_scans(content: Any, max_voxels: int | None) -> tuple[Any, list[dict[str, Any]]]:
    """Return the planned grid and all training and unlabelled scans on it, [{"case", "image" [C, H, W, D]}]."""
    from common.cohorts.cohort import Cohort
    from common.data.checks import require_sound
    from common.data.selection import strip_labels
    from common.grid.preprocessing import ImagePreprocessing
    from common.processes import followed

    cohort = Cohort(None, content) if max_voxels is None else Cohort(None, content, max_voxels=max_voxels)
    cohort.cases = strip_labels(content.training + content.unlabeled)
    require_sound(cohort.cases, label_values=cohort.labels, dataset_dir=content.directory)
    preprocessing = ImagePreprocessing(cohort.grid)
    return cohort.grid, [preprocessing(dict(case)) for case in followed(cohort.cases, "loading scans")]


def with_proposed(content: Any, chosen: Sequence[str]) -> dict[str, Any]:
    """Return a datalist, as JSON: the chosen cases in training, each with a file for its label, the rest unlabelled."""

    def inside(path: str) -> str:
        return Path(path).relative_to(content.directory).as_posix()

    def told(case: Mapping[str, Any]) -> dict[str, Any]:
        return {key: case[key] for key in ("known_labels",) if key in case}

    cases = {case["case"]: case for case in content.training + content.unlabeled}
    training = []
    for case in chosen:
        image = inside(cases[case]["image"])
        drawn = cases[case].get("label")
        name = PurePosixPath(image).name if image.endswith((".nii", ".nii.gz")) else f"{case}.nii.gz"
        label = inside(drawn) if drawn else f"{FOLDER}/{name}"
        training.append({"image": image, "label": label, **(told(cases[case]) if drawn else {})})
    lists: dict[str, Any] = {"training": training}
    lists["unlabeled"] = [{"image": inside(case["image"])} for name, case in cases.items() if name not in chosen]
    for group in ("validation", "test"):
        entries = [
            {key: inside(case[key]) for key in ("image", "label") if key in case} | told(case)
            for case in getattr(content, group)
        ]
        lists |= {group: entries} if entries else {}
    labels = {str(value): name for value, name in content.labels.items()}
    return {"name": content.name, **content.other, "labels": labels, **lists}


def read_quality(content: Any, results: Path) -> dict[str, float]:
    """Return the Dice that each scan without a label probably has, by the review of its prediction.

    Raises:
        InputError: as `read_review`, or no scan without a label is in it.
    """
    from common.atlas.choosing.next_scan import predicted_quality
    from common.errors import InputError
    from common.review.reviewed import FILE, read_review

    rows = read_review(results)
    unlabelled = [case["case"] for case in content.training + content.unlabeled if "label" not in case]
    found = {case: predicted_quality(rows[case]) for case in unlabelled if case in rows}
    if not unlabelled:
        raise InputError(f"{content.directory}: every scan in training has a label; wanted some without one")
    if not found:
        raise InputError(
            f"{results / FILE}: has {len(rows)} scans ({next(iter(rows))}, ...), none of the {len(unlabelled)} without "
            f"a label in {content.directory} ({unlabelled[0]}, ...); wanted the review of these"
        )
    if len(found) < len(unlabelled):
        print(f"{len(unlabelled) - len(found)} of {len(unlabelled)} scans without a label have no review: left out")
    return found


def describe_next(found: Iterable[Any]) -> list[dict[str, str]]:
    """Return a row for each scan to label next."""
    return [
        {
            "scan": scan.case,
            "predicted Dice": f"{scan.quality:.2f}",
            "unlike": f"{scan.unlike:.2f}",
            "why": "like no other scan: look at it first" if scan.alone else "",
        }
        for scan in found
    ]


def describe(found: Any, proposed: Iterable[str]) -> list[dict[str, str]]:
    """Return a row for each scan that was looked at closely, the proposed ones first, then the best ones."""
    chosen = list(proposed)
    rows = []
    for case in [*chosen, *(case for case in found.reach if case not in chosen)]:
        reached = found.found[case]
        rows.append(
            {
                "scan": case,
                "proposed": str(chosen.index(case) + 1) if case in chosen else "",
                "reach": f"{found.reach[case]:.2f}",
                "alike": f"{reached.local:.3f}",
                "size": f"{math.expm1(reached.growth):.0%}",
                "bending": f"{reached.bending:.3f}",
            }
        )
    return rows


def candidates(content: Any, among: str) -> list[str]:
    """Return ids of the scans to choose from.

    Raises:
        InputError: there are none.
    """
    from common.errors import InputError

    wanted: Mapping[str, Any] = {
        "all": content.training + content.unlabeled,
        "labelled": [case for case in content.training if "label" in case],
    }
    if not wanted[among]:
        raise InputError(f"{content.directory}: no training case has a label; wanted some, or --among all")
    return [case["case"] for case in wanted[among]]


def print_rows(title: str, rows: Sequence[Mapping[str, str]]) -> None:
    """Print a table below its title, which a narrow table would break into lines."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from common.errors import printable

    print(title)
    table = Table()
    for column in rows[0]:
        table.add_column(Text(column))
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row.values()))
    Console().print(table)


def first_scans(images: Sequence[Mapping[str, Any]], ids: Sequence[str], count: int) -> list[str]:
    """Print which scans reach the others best; return those to label."""
    from common.atlas.choosing.proposal import propose
    from common.atlas.choosing.reach import ScanReach
    from common.processes import followed

    found = propose(ScanReach(images), ids, count, partial(followed, description="registering"))
    title = f"{len(found.reach)} of {len(ids)} scans looked at closely, each registered to {len(found.targets)}"
    print_rows(title, describe(found, found.chosen))
    print(
        "reach: mean rank among these, 1 is best; alike: mean squared local correlation after registration; size: mean "
        "change of\nsize on the way; bending: of the deformation. A label drawn on the proposed scans is carried best "
        "to the others."
    )
    return list(found.chosen)


def next_scans(
    images: Sequence[Mapping[str, Any]], quality: Mapping[str, float], labelled: Sequence[str], count: int
) -> list[str]:
    """Print which scans to label next, and why; return them."""
    from common.atlas.choosing.next_scan import choose_next, scan_distances
    from common.atlas.choosing.reach import ScanReach
    from common.processes import followed

    ids, distances = scan_distances(ScanReach(images), partial(followed, description="registering"))
    found = choose_next(quality, ids, distances, labelled, count)
    print_rows(f"to label next, of {len(quality)} scans; {len(labelled)} have a label", describe_next(found))
    print(
        "predicted Dice: mean of the labels found there, by the review; unlike: distance of the image to the nearest "
        "scan that has a\nlabel or stands above it here, 1 is that of two scans in the middle. The product of what is "
        "lacking to a Dice of 1 and unlike decides."
    )
    return [scan.case for scan in found]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status: 0, or 1 after one line for each problem."""
    from common.errors import InputError, printable
    from common.files.atomic_write import write_atomic
    from common.launch.words import place

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=place, metavar="DIR", help="folder with a dataset.json, or of scans")
    parser.add_argument("--count", type=int, default=1, metavar="K", help="scans to label, default 1")
    parser.add_argument(
        "--among", choices=("all", "labelled"), default="all", help="scans to choose from: those of training and "
        "unlabeled, whether they have a label or not (default), or those that have one"
    )  # fmt: skip
    parser.add_argument("--next", type=place, metavar="RESULTS", help="folder of predictions with their review")
    parser.add_argument("--max-voxels", type=int, metavar="N", help="of the planned grid")
    parser.add_argument("--datalist", default="dataset.json", metavar="FILE", help="to read, default dataset.json")
    parser.add_argument("--output", default=DEFAULT_OUTPUT, metavar="FILE", help=f"default {DEFAULT_OUTPUT}, in DIR")
    parser.add_argument("--overwrite", action="store_true", help="replace a datalist written before")
    given = parser.parse_args(arguments)
    try:
        if given.next is not None and given.among != "all":
            raise InputError("--among labelled: found beside --next; wanted one of the two, next are those without")
        content = read_scans(given.directory, given.datalist)
        output = content.directory / Path(given.output).expanduser()  # an absolute path stays what it is
        if output.exists() and (output.name == given.datalist or not given.overwrite):
            raise InputError(f"{output}: already there; wanted another --output, or --overwrite for an earlier one")
        quality = {} if given.next is None else read_quality(content, given.next)
        ids = list(quality) or candidates(content, given.among)
        if not 1 <= given.count <= len(ids):
            raise InputError(f"--count is {given.count}; wanted 1 to {len(ids)}, the scans to choose from")
        grid, images = load_scans(content, given.max_voxels)
    except InputError as error:
        print(*(f"error: {line}" for line in error.problems), sep="\n", file=sys.stderr)
        return 1
    size, spacing = (" x ".join(f"{n:.3g}" for n in values) for values in (grid.spatial_size, grid.pixdim))
    print(f"{len(images)} scans on {size} voxels of {spacing} mm")
    labelled = [case["case"] for case in content.training if "label" in case]
    if quality:
        chosen = next_scans(images, quality, labelled, given.count)
        kept = [*labelled, *chosen]
    else:
        kept = chosen = first_scans(images, ids, given.count)
    write_atomic(output, json.dumps(with_proposed(content, kept), indent=1) + "\n")
    print(f"label: {', '.join(printable(case) for case in chosen)}")
    print(f"{output}: draw the labels into the files that it names, then train with --datalist {output}")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `common`
    sys.exit(main())
