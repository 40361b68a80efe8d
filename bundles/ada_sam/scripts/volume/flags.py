"""Which pseudo labels stand out among all of them: what is odd about every one says nothing of one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from ..common.review.knowledge import usual
from ..common.slices.counted import in_ranges
from .quality import BOX, JUMP, MISSING, RUN

VOLUME = "volume"
SPANS = {BOX: 3.0, JUMP: 3.0, RUN: 3.0, VOLUME: 4.0}  # from the middle of all cases
LEAST_SPAN = {BOX: 0.05, JUMP: 0.05, RUN: 0.3, VOLUME: 0.2}  # a few cases look too much alike
FEWEST = 5  # cases from which on one can stand out; of fewer all that is odd is told
NUMBERS = {BOX: "box_overlap", JUMP: "neighbour_dice", RUN: "runs"}
RULE = (
    "A mask stands out where ADA-SAM itself found nothing; where it lies elsewhere than the slice classifier looked, "
    "jumps from slice to slice or falls into parts, by more than 3 spans worse than the middle of all scans; or "
    "where its volume is more than 4 spans from that of the others. A span is how far the scans usually are from "
    "their middle: 1.48 median distances."
)


def stand_out(judged: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, list[str]]]:
    """Return which flags of each case are told, by `RULE`.

    Args:
        judged: case -> what `quality.check` and `quality.measure` say of it.

    Returns:
        {case: {label value as text: flags}}, every case and label.
    """
    labels = next(iter(judged.values()), {}).get("flags", {})
    told: dict[str, dict[str, list[str]]] = {case: {value: [] for value in labels} for case in judged}
    for value in labels:
        limits = dict(_limits(judged, value))
        for case, one in judged.items():
            told[case][value] = list(_told(one, value, limits))
    return told


def _limits(judged: Mapping[str, Mapping[str, Any]], value: str) -> Iterator[tuple[str, tuple[float, float]]]:
    """Yield what of a label's numbers is usual: flag, (middle, span)."""
    for flag, name in NUMBERS.items():
        known = [float(one[name][value]) for one in judged.values() if one[name][value] is not None]
        if len(known) >= FEWEST:
            yield flag, usual(known, LEAST_SPAN[flag])
    volumes = [math.log(one["volume_ml"][value]) for one in judged.values() if one["volume_ml"][value] > 0]
    if len(volumes) >= FEWEST:
        yield VOLUME, usual(volumes, LEAST_SPAN[VOLUME])


def _told(one: Mapping[str, Any], value: str, limits: Mapping[str, tuple[float, float]]) -> Iterator[str]:
    for flag in one["flags"][value]:
        number = one[NUMBERS[flag]][value] if flag in NUMBERS else None
        if flag == MISSING or flag not in limits or number is None:
            yield flag
            continue
        middle, span = limits[flag]
        worse = number - middle if flag == RUN else middle - number
        if worse > SPANS[flag] * span:
            yield flag
    volume = one["volume_ml"][value]
    if VOLUME in limits and volume > 0 and MISSING not in one["flags"][value]:
        middle, span = limits[VOLUME]
        if abs(math.log(volume) - middle) > SPANS[VOLUME] * span:
            yield VOLUME


def sentences(one: Mapping[str, Any], told: Mapping[str, list[str]], names: Mapping[int, str]) -> list[str]:
    """Return a sentence for each flag of a case that is told; names of the label values."""
    said = []
    for value, flags in told.items():
        name = names[int(value)]
        for flag in flags:
            said.append(f"{name}: {_SAID[flag](one, value)}.")
    return said


def everywhere(judged: Mapping[str, Mapping[str, Any]], names: Mapping[int, str]) -> list[str]:
    """Return what is odd about more than half of all cases, in sentences: of one of them it says nothing."""
    said = []
    for flag, words in _EVERYWHERE.items():
        counts = {
            names[int(value)]: sum(flag in one["flags"][value] for one in judged.values())
            for value in next(iter(judged.values()), {}).get("flags", {})
        }
        usual_of = {name: count for name, count in counts.items() if 2 * count > len(judged) >= FEWEST}
        if usual_of:
            listed = ", ".join(f"{name} {count}" for name, count in usual_of.items())
            said.append(f"In most of the {len(judged)} scans {words} ({listed}): it is not told again of each.")
    return said


def _jump(one: Mapping[str, Any], value: str) -> str:
    slices = one.get("jump_slices", {}).get(value) or []
    where = f" at slice {in_ranges(slices)}" if slices else ""
    return f"the mask jumps{where} (lowest Dice of neighbours {one['neighbour_dice'][value]:.2f})"


_SAID = {
    MISSING: lambda one, value: "ADA-SAM itself found nothing",
    BOX: lambda one, value: (
        f"the mask is not where the slice classifier looked (overlap of the boxes {one['box_overlap'][value]:.2f})"
    ),
    JUMP: _jump,
    RUN: lambda one, value: f"its slices fall into {one['runs'][value]} parts",
    VOLUME: lambda one, value: f"a volume of {one['volume_ml'][value]:.1f} ml is unlike that of the other scans",
}
_EVERYWHERE = {
    BOX: "the mask is not where the slice classifier looked",
    JUMP: "the mask jumps from slice to slice",
    RUN: "its slices fall into parts",
}
