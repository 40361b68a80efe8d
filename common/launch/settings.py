"""What the settings of a run can be: all wrong ones are said together, before anything starts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..errors import InputError, plain_input_errors
from .kinds import (
    CHANNELS,
    COUNT,
    DEVICE,
    EXISTING,
    FILE,
    FOLDER,
    MAYBE,
    MM,
    NORM,
    NULL,
    PERCENTILES,
    RANGES,
    RATE,
    SEED,
    STRIDES,
    TEXT,
    TRUTH,
    VOXELS,
    Kind,
    choice,
    listed,
    number,
    whole,
)  # fmt: skip
from .overrides import RESERVED, is_expression, read_command

PLANNED = 8  # divides each side of a planned grid
# says what is wrong with settings that are right one by one: their values, as far as they are known -> lines
Fit = Callable[[Mapping[str, Any]], Iterable[str]]

# what every bundle has; a bundle adds its own, and tests/bundles/every/test_settings.py misses none
SHARED: dict[str, Kind] = {
    "bundle_root": EXISTING,
    "ckpt_dir": FOLDER,
    "ckpt_path": FILE,
    "output_dir": FOLDER,
    "cache_dir": FOLDER,
    "dataset_dir": EXISTING,
    "datalist": TEXT,
    "spatial_size": VOXELS | NULL,
    "pixdim": MM | NULL,
    "max_voxels": whole(1, 2**31),
    "divisor": whole(1, 512),
    "intensity_range": RANGES | NULL,
    "sam_channel": MAYBE | NULL,
    "percentiles": PERCENTILES,
    "resume": TRUTH,
    "dry_run": TRUTH,
    "review": TRUTH,
    "seed": SEED,
    "channels": CHANNELS,
    "strides": STRIDES | NULL,
    "levels": whole(1, 2) | NULL,
    "fine_pixdim": MM | NULL,
    "fine_epochs": COUNT | NULL,
    "fine_rate": RATE,
    "one_piece": TRUTH,
    "norm": NORM,
    "dropout": number(least=0, below=1),
    "epochs": COUNT,
    "epoch_length": COUNT,
    "batch_size": COUNT,
    "learning_rate": RATE,
    "roi_size": VOXELS | NULL,
    "overlap": number(least=0, below=1),
    "save_every": COUNT,
    "num_workers": whole(0, 1024),
    "device": DEVICE,
    "amp": TRUTH,
    "save_probabilities": TRUTH,
    "save_uncertainty": TRUTH,
    "calibrate": TRUTH,
    "dicom_seg": TRUTH,
    "backend": choice("nccl", "gloo"),
}


def check_settings(kinds: Mapping[str, Kind], fits: Sequence[Fit] = (), argv: Sequence[str] | None = None) -> None:
    """Refuse what `python -m monai.bundle run` is given and can't be, in a word or in an edited config.

    Looked at is what the merged configs say of each key with a kind, and each override: one that names no key, one
    whose key leads to a setting (`train::trainer::max_epochs`, which is `@epochs`), and one of a component by what is
    none. Expressions are MONAI's. Does nothing where the process was not started as `monai.bundle run`: what a
    client sets is for the components themselves to judge.

    Args:
        kinds: of a bundle's settings.
        fits: what has to fit together; asked about those settings that are right by themselves.
        argv: the command line; left out, that of this process.

    Raises:
        InputError: one line for each problem.
    """
    plain_input_errors()
    command = read_command(argv)
    if command is None:
        return
    problems, values = list(command.problems), {}
    shown = {name: f"--{name}" for name, _, _ in command.given}
    for name in [name for name in kinds if name in command.config]:
        word = command.config[name]
        if is_expression(word) or _is_component(word):
            continue
        try:
            values[name] = kinds[name].read(word)
        except (ValueError, TypeError):
            problems.append(f"{shown.get(name, name)} is {word!r}; wanted {kinds[name].wanted}")
    for name, word, default in command.given:
        kind = None if name in kinds or is_expression(word) else _kind_by_default(name, default, kinds)
        try:
            _ = kind and kind.read(word)
        except (ValueError, TypeError):
            problems.append(f"--{name} is {word!r}; wanted {kind.wanted}")
    problems += [line for fit in (_is_dry_or_resumed, *fits) for line in fit(values)]
    if problems:
        raise InputError(problems)


def _is_dry_or_resumed(values: Mapping[str, Any]) -> Iterator[str]:
    if values.get("dry_run") and values.get("resume"):
        yield "dry_run and resume are true; wanted one of them, since a dry run measures a run from its beginning"


def unet_fits(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield where settings of a U-Net don't fit: strides are one fewer than channels, and sizes their multiples."""
    if values.get("strides", ()) is None:
        steps = len(values["channels"]) - 1 if "channels" in values else None
        if steps is not None and "divisor" in values and values["divisor"] != 2**steps:
            yield f"divisor is {values['divisor']}; wanted {2**steps}, for {steps + 1} channels, or strides"
    elif {"channels", "strides"} <= values.keys() and len(values["strides"]) != len(values["channels"]) - 1:
        yield f"strides is {values['strides']}; wanted one fewer than channels, which is {values['channels']}"
    else:
        yield from sizes_fit(values)


def sizes_fit(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield which sizes the strides of a network don't divide; a planned one is a multiple of `divisor`, else of 8."""
    if values.get("strides") is None:
        return
    factor = math.prod(values["strides"])
    for name in ("spatial_size", "roi_size"):
        size = values.get(name)
        if size is not None and (any(n % factor for n in size) or max(size) == factor > 1):
            yield f"{name} is {size}; wanted multiples of {factor}, the product of strides, and not {factor} alone"
    if "spatial_size" in values and values["spatial_size"] is None:
        if "divisor" in values and values["divisor"] % factor:
            yield f"divisor is {values['divisor']}; wanted a multiple of {factor}, the product of strides"
        elif "divisor" not in values and PLANNED % factor:
            yield f"strides is {values['strides']}; wanted a product that divides {PLANNED}, or a spatial_size"


def _is_component(word: Any) -> bool:
    return isinstance(word, dict) and "_target_" in word


def _kind_by_default(name: str, default: Any, kinds: Mapping[str, Kind]) -> Kind | None:
    """Return what an override of a key without a kind of its own can be, by what stands there without it."""
    if name.replace("#", "::").rpartition("::")[2] in RESERVED:
        return None
    if isinstance(default, str) and default.startswith("@"):
        return kinds.get(default.removeprefix("@"), COMPONENT)
    if _is_component(default) or (is_expression(default) and name.isidentifier()):
        return COMPONENT
    if isinstance(default, dict):
        return SECTION
    if isinstance(default, bool):
        return TRUTH
    if isinstance(default, int | float):
        return number(whole=isinstance(default, int)) | NULL
    if isinstance(default, list):
        return NUMBERS if default and all(isinstance(n, int | float) for n in default) else LIST
    return None


def _read_section(word: Any, component: bool = False) -> dict:
    if not isinstance(word, dict) or (component and "_target_" not in word):
        raise TypeError
    return word


def _read_entry(word: Any) -> Any:
    if not isinstance(word, dict | str):
        raise TypeError
    return word


COMPONENT = Kind("a component, such as {'_target_': ...}, or an expression", lambda word: _read_section(word, True))
SECTION = Kind("keys and values, such as {'key': ...}", _read_section)
LIST = listed(Kind("", _read_entry), "a list of components or texts", 0)
NUMBERS = listed(number(), "a list of numbers", 0)
