"""What a bundle's metadata.json calls the classes of its network; clients such as MONAI Label show these names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files.json_file import read_json

WANTED = 'wanted network_data_format outputs pred channel_def {"0": "background", "1": "liver", ...}'


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
