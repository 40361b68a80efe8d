"""Kinds of settings: what each can be, said in words and read from what a person types."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.networks.layers.utils import get_norm_layer

from ..files.atomic_write import require_writable
from . import words

MANY = 1_000_000  # of what is counted nobody means more


@dataclass(frozen=True)
class Kind:
    """What a setting can be.

    `a | b` is either of two kinds.

    Args:
        wanted: the same in words, behind "wanted".
        read: returns the value that a word stands for, or raises ValueError or TypeError.
    """

    wanted: str
    read: Callable[[Any], Any]

    def __or__(self, other: Kind) -> Kind:
        def read(word: Any) -> Any:
            try:
                return self.read(word)
            except (ValueError, TypeError):
                return other.read(word)

        return Kind(f"{self.wanted}, or {other.wanted}", read)


def number(
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    whole: bool = False,
) -> Kind:
    """Return the kind of a finite number in a range; one in a text is none, since what takes it may not read it."""
    lower = f" of {least:g} or more" if least is not None else f" above {above:g}" if above is not None else ""
    upper = f" up to {most:g}" if most is not None else f" below {below:g}" if below is not None else ""
    if least is not None and most is not None:
        lower, upper = f" from {_shown(least)} to {_shown(most)}", ""
    numbers = int if whole else int | float

    def read(word: Any) -> float:
        if isinstance(word, bool) or not isinstance(word, numbers) or not math.isfinite(word):
            raise TypeError
        if (least is not None and word < least) or (most is not None and word > most):
            raise ValueError
        if (above is not None and word <= above) or (below is not None and word >= below):
            raise ValueError
        return word

    return Kind(f"a {'whole ' if whole else ''}number{lower}{' and' if lower and upper else ''}{upper}", read)


def whole(least: int = 1, most: int = MANY) -> Kind:
    """Return the kind of a count."""
    return number(least, most, whole=True)


def choice(*names: str) -> Kind:
    """Return the kind of a setting that is one of some names."""

    def read(word: Any) -> str:
        if not isinstance(word, str) or word not in names:
            raise ValueError
        return word

    return Kind(f"one of {', '.join(names)}" if len(names) > 1 else names[0], read)


def listed(kind: Kind, wanted: str, least: int = 1, most: int | None = None) -> Kind:
    """Return the kind of a list of `least` to `most` values of one kind; `wanted` says which list."""

    def read(word: Any) -> list[Any]:
        if isinstance(word, str) or not isinstance(word, Sequence):
            raise TypeError
        if len(word) < least or (most is not None and len(word) > most):
            raise ValueError
        return [kind.read(part) for part in word]

    return Kind(wanted, read)


def names(*known: str) -> Kind:
    """Return the kind of one name or several: `a`, `a,b` or a list."""

    def read(word: Any) -> list[str]:
        found = words.names(word)
        if not isinstance(word, str | Sequence) or not found or not set(found) <= set(known):
            raise ValueError
        return found

    return Kind(f"one or more of {', '.join(known)}", read)


def per_axis(whole: bool, most: float) -> Kind:
    """Return the kind of voxels (`whole`) or mm for each axis, or one number for all, see `words.per_axis`."""

    def read(word: Any) -> list[Any]:
        found = words.per_axis("", word, whole)
        if found is None or max(found) > most:
            raise ValueError
        return found

    return Kind(words.PER_AXIS[whole], read)


def _shown(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def _null(word: Any) -> None:
    if words.optional(word) is not None:
        raise ValueError


def _text(word: Any) -> str:
    if not isinstance(word, str) or not word.strip():
        raise TypeError
    return word


def _ids(word: Any) -> list[str]:
    found = words.items(word)
    if not found or not all(isinstance(p, str | int) and not isinstance(p, bool) and str(p) for p in found):
        raise TypeError
    return [str(part) for part in found]


def _existing(word: Any) -> str:
    if not Path(words.path(_text(word))).exists():
        raise ValueError
    return word


def _folder(word: Any) -> str:
    place = Path(words.path(_text(word))).absolute()
    nearest = next(parent for parent in (place, *place.parents) if parent.exists())
    require_writable(nearest)
    return word


def _file(word: Any) -> str:
    place = Path(words.path(_text(word)))
    if place.is_dir():
        raise ValueError
    if not place.exists():
        _folder(str(place.parent))
    return word


def _percentiles(word: Any) -> list[float]:
    lower, upper = listed(number(0, 100), "", 2, 2).read(word)
    if lower >= upper:
        raise ValueError
    return [lower, upper]


def _ranges(word: Any) -> Any:
    found = words.ranges("", word)
    if found is None:
        raise ValueError
    return found


def _device(word: Any) -> torch.device:
    if isinstance(word, bool | float) or not isinstance(word, str | int | torch.device):
        raise TypeError
    try:
        device = torch.device(word)
    except RuntimeError as error:
        raise ValueError from error
    if device.type == "cpu":
        return device
    there = torch.accelerator.current_accelerator(check_available=True)
    if there is None or device.type != there.type or (device.index or 0) >= torch.accelerator.device_count():
        raise ValueError
    return device


def _norm(word: Any) -> Any:
    name, options = word if isinstance(word, list | tuple) and len(word) == 2 else (word, {})
    try:
        get_norm_layer((_text(name), dict(options)), spatial_dims=3, channels=16)
    except Exception as error:  # as many kinds as there are layers
        raise ValueError from error
    return word


NULL = Kind("null", _null)
TRUTH = Kind(words.TRUTHS, lambda word: words.truth("", word))
SHARE = number(0, 1)
WEIGHT = number(least=0)
PART = number(above=0, most=1)
RATE = number(above=0, most=10)
COUNT, MAYBE = whole(1), whole(0)  # of what there has to be, and of what there may be none
SEED = whole(0, 2**32 - 1)
PERCENTILES = Kind("two ascending numbers from 0 to 100, such as 1,99", _percentiles)
RANGES = Kind(words.RANGES, _ranges)
VOXELS = per_axis(True, 4096)
MM = per_axis(False, 1000)
CHANNELS = listed(whole(1, 4096), "two or more whole numbers from 1 to 4096, such as 16,32,64,128", 2, 10)
STRIDES = listed(whole(1, 8), "whole numbers from 1 to 8, such as 2,2,2", 1, 10)
NORM = Kind("instance, batch, or another of MONAI's with its options, such as ['group',{'num_groups':4}]", _norm)
ID = Kind("the name of a case", lambda word: _ids([word])[0])
IDS = Kind("the name of a case, or several", _ids)
TEXT = Kind("a text", _text)
EXISTING = Kind("a file or folder that is there", _existing)
FOLDER = Kind("the path of a folder that can be written", _folder)
FILE = Kind("the path of a file that is there or can be written", _file)
DEVICE = Kind("cpu, or where this machine has such a GPU cuda or cuda:N", _device)
