"""Whether presence bits can tell labels from one another and from what is on every slice, before anything is learnt."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations

import numpy as np

from ..common.data.presence import TELLING_SHARE, foreground_values

# Of the slices with either of two labels, on which just one is. These are the only ones that tell them apart, and at
# both ends of a structure a bit is right to a slice at best: two labels of ten thick slices that differ at their ends
# alone stay below it.
DIFFERENT = 0.25
WAYS_OUT = "a typical box of each in the datalist's locations, or masks on a few slices (ada_sam)"


def untold(cases: Sequence[np.ndarray], labels: Mapping[int, str], unsized: Collection[int] = ()) -> list[str]:
    """Return a line for each label, or group of labels, that bits alone can't tell; none where they can.

    Args:
        cases: bits bool [P, n] of each case.
        labels: value -> name, background included; its P foreground labels by value are the rows of the bits.
        unsized: values of labels of which nothing says how large they are: an activation map that is cut by itself
            (Otsu) took up .3 to .6 of the slices of structures that take up .13, and was below an ellipse in the centre
            on every set that was measured.
    """
    values, bits = foreground_values(labels), np.concatenate([np.asarray(found, dtype=bool) for found in cases], axis=1)
    names = [f"{value} ({labels[value]})" for value in values]
    lines = [
        f"label {name}: is on {100 * share:.0f} % of the slices, of which bits say nothing; wanted at most "
        f"{100 * TELLING_SHARE:.0f} %, or {WAYS_OUT}"
        for name, share in zip(names, bits.mean(1), strict=True)
        if share > TELLING_SHARE
    ]
    lines += [
        f"label {name}: has neither a box nor a volume_ml in the datalist's locations, and bits don't say how large it "
        "is; wanted a rough volume, or a typical box"
        for value, name in zip(values, names, strict=True)
        if value in unsized
    ]
    for group, share in alike(bits):
        lines.append(
            f"labels {', '.join(names[row] for row in group)}: are on the same slices, but for at most "
            f"{100 * share:.0f} % of them, so that bits can't tell them apart; wanted {100 * DIFFERENT:.0f} % or more "
            f"that have only one of them, or {WAYS_OUT}"
        )
    return lines


def alike(bits: np.ndarray) -> list[tuple[list[int], float]]:
    """Return groups of labels, rows of bits [P, n], that are on nearly the same slices.

    Each label of a group is like another one of it. Beside the rows the largest share of slices on which two labels
    that are alike differ.
    """
    group, shares = list(range(len(bits))), {}
    for first, second in combinations(range(len(bits)), 2):
        share = different(bits[first], bits[second])
        if share < DIFFERENT:
            shares[first] = max(share, shares.get(first, 0.0))
            group = [group[first] if number == group[second] else number for number in group]
    rows = [[row for row, number in enumerate(group) if number == wanted] for wanted in dict.fromkeys(group)]
    return [(members, max(shares.get(row, 0.0) for row in members)) for members in rows if len(members) > 1]


def different(first: np.ndarray, second: np.ndarray) -> float:
    """Return on which share of the slices with either of two labels, bool [n], only one is; 1 where neither is."""
    either = int((first | second).sum())
    return int((first ^ second).sum()) / either if either else 1.0
