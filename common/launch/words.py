"""What a person types for a setting, as the value that it stands for; read here and nowhere else.

The command line hands over words: `--resume 1`, `--sam null`, `--spatial_size 64,48,32`. Python values pass unchanged.
Whatever is none of what is wanted is an InputError of one line: the key, the word, what is wanted.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, overload

from ..errors import InputError

TRUE, FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")
NOTHING = ("null", "none")
AXES = 3
# what is wanted, in words
TRUTHS = "true or false (also 1, yes, on; 0, no, off)"
PER_AXIS = {
    whole: f"{'voxels' if whole else 'mm'} above 0 for each axis, such as {'64,48,32' if whole else '2,2,3.5'}"
    for whole in (True, False)
}

PERCENTILES = "percentiles"
RANGES = f"{PERCENTILES}, or two ascending numbers such as -160,240; a list of these for several channels"


def truth(key: str, word: Any) -> bool:
    """Return whether a setting is on: true/1/yes/on or false/0/no/off, in any case."""
    text = str(word).strip().lower()
    if text in TRUE or text in FALSE:
        return text in TRUE
    raise InputError(f"{key} is {word!r}; wanted {TRUTHS}")


def optional(word: Any) -> Any:
    """Return None for null and none, in any case; anything else as it is."""
    return None if isinstance(word, str) and word.strip().lower() in NOTHING else word


@overload
def number(key: str, word: Any, whole: Literal[False] = False, least: float | None = None) -> float: ...
@overload
def number(key: str, word: Any, whole: Literal[True], least: float | None = None) -> int: ...
@overload
def number(key: str, word: Any, whole: bool, least: float | None = None) -> float | int: ...
def number(key: str, word: Any, whole: bool = False, least: float | None = None) -> float | int:
    """Return a finite number, an int where `whole`; not below `least`."""
    wanted = "a whole number" if whole else "a number"
    wanted += "" if least is None else f" of {least:g} or more"
    try:
        value = float(word) if not isinstance(word, bool) else math.nan
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value) or (whole and value != int(value)) or (least is not None and value < least):
        raise InputError(f"{key} is {word!r}; wanted {wanted}")
    return int(value) if whole else value


@overload
def optional_number(key: str, word: Any, whole: Literal[False] = False, least: float | None = None) -> float | None: ...
@overload
def optional_number(key: str, word: Any, whole: Literal[True], least: float | None = None) -> int | None: ...
def optional_number(key: str, word: Any, whole: bool = False, least: float | None = None) -> float | int | None:
    """Return a number as `number` does, or None for null."""
    if optional(word) is None:
        return None
    try:
        return number(key, word, whole, least)
    except InputError as error:
        raise InputError(f"{line}, or null" for line in error.problems) from None


def items(word: Any) -> list[Any]:
    """Return the elements of a list, or of a text such as `64,48,32` or `[64, 48, 32]`; else the one element."""
    if isinstance(word, str):
        return [part.strip().strip("'\"") for part in word.strip().strip("[]()").split(",") if part.strip()]
    return list(word) if isinstance(word, Sequence) else [word]


def per_axis(key: str, word: Any, whole: bool = False) -> list[Any] | None:
    """Return a number above 0 for each of the three RAS axes, or None for null; one number stands for all three."""
    if optional(word) is None:
        return None
    try:
        found = [number(key, part, whole) for part in items(word)]
    except InputError:
        found = []
    found = found * AXES if len(found) == 1 else found
    if len(found) != AXES or min(found) <= 0:
        raise InputError(f"{key} is {word!r}; wanted {PER_AXIS[whole]}, or null")
    return found


def ranges(key: str, word: Any) -> list[tuple[float, float] | None] | None:
    """Return a range for each channel, None for percentiles; one entry stands for all channels. None for null."""
    if optional(word) is None:
        return None
    entries = items(word)
    if not any(isinstance(part, list | tuple) or optional(part) in (None, PERCENTILES) for part in entries):
        entries = [entries]
    try:
        return [_range(key, part) for part in entries]
    except (InputError, ValueError):
        raise InputError(f"{key} is {word!r}; wanted {RANGES}, or null") from None


def _range(key: str, word: Any) -> tuple[float, float] | None:
    if optional(word) is None or word == PERCENTILES:
        return None
    low, high = (number(key, part) for part in items(word))
    if low >= high:
        raise ValueError
    return low, high


def names(word: Any) -> list[str] | None:
    """Return texts as a list, or None for null: `a`, `a,b`, `[a, b]`; a number is a text here."""
    return None if optional(word) is None else [str(part) for part in items(word)]


def place(word: str | os.PathLike) -> Path:
    """Return a path with `~` as the home folder; the type of every path among the arguments of a command."""
    return Path(word).expanduser()


def path(word: str | os.PathLike) -> str:
    """Return a path with `~` as the home folder, as a text."""
    return str(place(word))
