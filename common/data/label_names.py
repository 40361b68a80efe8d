"""What a bundle's metadata.json calls the classes of its network; clients such as MONAI Label show these names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files.atomic_write import write_atomic
from ..files.json_file import read_json
from ..grid.grid import Grid

WANTED = 'wanted network_data_format outputs pred channel_def {"0": "background", "1": "liver", ...}'
LONGEST_LINE = 160


def prediction_format(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a parsed metadata.json that describes what the network returns; KeyError where it has none."""
    return content["network_data_format"]["outputs"]["pred"]


def channel_names(metadata: str | Path) -> list[str]:
    """Return the names of a bundle's classes, background first, as its metadata.json has them.

    Raises:
        InputError: no `channel_def` with the channels 0, 1, 2 ... in it.
    """
    try:
        content = read_json(Path(metadata).expanduser(), "a metadata.json")
        channels = {int(key): str(name) for key, name in prediction_format(content)["channel_def"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{metadata}: can't be read ({error!r}); {WANTED}") from error
    if sorted(channels) != list(range(len(channels))) or len(channels) < 2:
        raise InputError(f"{metadata}: channel_def names the channels {sorted(channels)}; {WANTED}")
    return [channels[channel] for channel in range(len(channels))]


def bundle_name(metadata: str | Path) -> str | None:
    """Return what a bundle's metadata.json calls the bundle, whatever its folder is called; None where that doesn't say
    or can't be read: the end of a training is no time to fail for it."""
    try:
        content = read_json(Path(metadata).expanduser(), "a metadata.json")
    except InputError:
        return None
    found = content.get("name") if isinstance(content, Mapping) else None
    return found if isinstance(found, str) else None


def compare_names(metadata: str | Path, labels: Mapping[int, str]) -> str | None:
    """Return one line on how a model's labels (value -> name, background first) differ from metadata.json; else None.

    Names are compared as MONAI Label shows them, in lower case.
    """
    try:
        named = channel_names(metadata)
    except InputError as error:
        return error.problems[0]
    if [name.lower() for name in named] == [name.lower() for name in labels.values()]:
        return None
    return (
        f"the model's labels are {', '.join(labels.values())}, configs/metadata.json names {', '.join(named)}: clients "
        "show the latter. To correct it: python -m tools.describe_model BUNDLE DATASET_DIR"
    )


def check_names(names: Sequence[str]) -> None:
    """Refuse names of classes, background first, that clients could not tell apart.

    Raises:
        InputError: a name comes twice, capitals not counted, or there is none beside the background.
    """
    if len({name.lower() for name in names}) < len(names):
        raise InputError(f"labels are {', '.join(names)}; wanted different names, capitals not counted")
    if len(names) < 2:
        raise InputError(f"labels are {', '.join(names)}; wanted at least one beside the background")


def write_names(metadata: str | Path, names: Sequence[str], grid: Grid | None) -> None:
    """Write what a model segments into a metadata.json: names, their number, and the size and channels of its grid;
    one that says so already stays as it is, byte by byte.

    Args:
        names: of the classes, background first.
        grid: of the model; None: it stays as it is described.

    Raises:
        InputError: as `check_names`, or metadata.json can't be read.
    """
    path = Path(metadata)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        image, prediction = content["network_data_format"]["inputs"]["image"], prediction_format(content)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: can't be read ({error!r}); wanted the metadata.json of a bundle") from error
    check_names(names)
    before = json.dumps(content)
    prediction["num_channels"] = len(names)
    prediction["channel_def"] = {str(channel): name for channel, name in enumerate(names)}
    if grid:
        image["num_channels"] = grid.channels
        image["channel_def"] = {str(n): "image" if grid.channels == 1 else f"image_{n}" for n in range(grid.channels)}
        image["spatial_shape"] = prediction["spatial_shape"] = list(grid.spatial_size)
    if json.dumps(content) != before:
        write_atomic(path, _as_text(content))


def follow_model(metadata: Path, labels: Mapping[int, str], grid: Grid, model: Path) -> str | None:
    """Bring a bundle's metadata.json in line with a model that was trained where its clients look for one, in models/.

    Of a model elsewhere the file says nothing and stays.

    Args:
        metadata: configs/metadata.json of a bundle.
        labels: value -> name, background first.
        model: model.pt.

    Returns:
        A line on what was changed, or on what a person can do; None where names agree.
    """
    difference = compare_names(metadata, labels)
    if difference is None or model.resolve().parent != metadata.resolve().parents[1] / "models":
        return difference
    try:
        before = channel_names(metadata)
        write_names(metadata, list(labels.values()), grid)
    except (InputError, OSError):  # of a bundle that can't be written, after a training
        return difference
    return (
        difference and f"configs/metadata.json names {', '.join(labels.values())} now, where it had {', '.join(before)}"
    )


def _as_text(content: Mapping[str, Any]) -> str:
    """Indent JSON, what holds nothing but values on one line."""

    def joined(found: re.Match) -> str:
        line = re.sub(r"\s*\n\s*", " ", found[0]).replace("[ ", "[").replace(" ]", "]").replace("{ ", "{")
        line = line.replace(" }", "}")
        return line if len(line) <= LONGEST_LINE else found[0]

    return re.sub(r"[\[{]\n[^\[\]{}]*\n\s*[\]}]", joined, json.dumps(content, indent=4, ensure_ascii=False)) + "\n"
