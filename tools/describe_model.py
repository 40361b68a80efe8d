"""Write into a bundle's metadata.json what its model segments: MONAI Label and other clients show the names from there.

    python -m tools.describe_model BUNDLE DATASET_DIR               models/model.pt, names of DATASET_DIR/dataset.json
    python -m tools.describe_model BUNDLE --labels kidney tumour    names alone, the background left out, in their order

The second form is also for a bundle without a model, whose first one a client is going to train: its label values are
then 1, 2, ... in the order of the names.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from common.data.label_names import channel_names, check_names, prediction_format, write_names
from common.errors import InputError, plain_input_errors, printable
from common.launch.words import place

if TYPE_CHECKING:
    from common.grid.grid import Grid


def describe_model(bundle: Path, names: Sequence[str], model: Path | None) -> Path:
    """Write names, their number and the size of the grid into configs/metadata.json; return its path.

    Args:
        bundle: its folder.
        names: of the classes, background first.
        model: model.pt; None or no such file: the grid stays as it is described.

    Raises:
        InputError: as `write_names`, or the model has another number of classes.
    """
    check_names(names)
    path, grid = bundle / "configs" / "metadata.json", read_model(model)
    if grid and len(grid.label_values) != len(names):
        raise InputError(
            f"{model} has {len(grid.label_values)} classes, background included; {len(names)} names are given "
            f"({', '.join(names)}); wanted one for each, or that the model is moved away"
        )
    write_names(path, names, grid)
    return path


def read_model(model: Path | None) -> Grid | None:
    """Return the grid and label values that a model.pt carries; None where there is no such file or it carries none."""
    from common.files.tensor_files import load_tensors
    from common.grid.grid import read_grid

    if model is None or not model.is_file():
        return None
    tensors = load_tensors(model)
    wanted = ("spatial_size", "pixdim", "label_values")
    carries = isinstance(tensors, Mapping) and all(name in tensors for name in wanted)
    return read_grid(str(model), {}) if carries else None


def require_described(bundle: Path, model: Path) -> None:
    """Refuse a model whose classes metadata.json does not count and name.

    Raises:
        InputError: another number of classes than `num_channels`, or than names in `channel_def`.
    """
    grid = read_model(model)
    if grid is None:
        return
    path = bundle / "configs" / "metadata.json"
    classes, names = len(grid.label_values), channel_names(path)
    counted = prediction_format(json.loads(path.read_text(encoding="utf-8"))).get("num_channels")
    if not classes == counted == len(names):
        raise InputError(
            f"{path}: num_channels is {counted} and channel_def has {len(names)} names; wanted {classes}, as {model} "
            f"has: python -m tools.describe_model {bundle} DATASET_DIR"
        )


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.describe_model",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundle", type=place, metavar="BUNDLE", help="folder of a bundle, or of an unpacked one")
    parser.add_argument("dataset_dir", type=place, nargs="?", metavar="DATASET_DIR", help="folder with a dataset.json")
    parser.add_argument("--datalist", default="dataset.json", metavar="FILE", help="default dataset.json")
    parser.add_argument("--labels", nargs="+", metavar="NAME", help="names in place of those of a data set")
    parser.add_argument("--model", type=place, metavar="FILE", help="default BUNDLE/models/model.pt")
    given = parser.parse_args(arguments)
    if (given.dataset_dir is None) == (given.labels is None):
        parser.error("give either DATASET_DIR or --labels")
    if given.labels is None:
        from common.data.datalist import read_datalist

        names = list(read_datalist(given.dataset_dir, given.datalist).labels.values())
    else:
        names = ["background", *given.labels]
    path = describe_model(given.bundle, names, given.model or given.bundle / "models" / "model.pt")
    print(printable(f"{path}: {', '.join(names)}"))
    return 0


if __name__ == "__main__":
    plain_input_errors()
    sys.exit(main())
