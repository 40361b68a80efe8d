"""Which labels are parts of one organ, so that they share what their tissue looks like."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from ..common.errors import InputError

SHARINGS = ("auto", "each", "union")
SHARED_SLICES = 0.1  # of the shorter label's slices, above which two labels lie beside each other
GAP = 2  # slices between two labels that still touch
USUAL = 0.5  # share of the cases in which they have to


def choose_groups(sharing: str, cases: Iterable[np.ndarray], labels: int) -> list[int]:
    """Return for each label the number of the map that it learns with others.

    Args:
        sharing: `each` label has its own, all labels have one (`union`), or `auto`: labels that follow one another
            along the slices without a gap in most cases, as the parts of one organ do, share one. Labels that are on
            the same slices have to be told apart, and don't, not even where both follow a third one: the first does.
        cases: bits bool [P, n] of each case.
        labels: P.

    Raises:
        InputError: another sharing.
    """
    if sharing not in SHARINGS:
        raise InputError(f"sharing is {sharing!r}; wanted one of {', '.join(SHARINGS)}")
    if sharing == "union":
        return [0] * labels
    groups = list(range(labels))
    if sharing == "auto":
        cases = list(cases)
        for first, second in combinations(range(labels), 2):
            joined = [label for label, group in enumerate(groups) if group in (groups[first], groups[second])]
            if follow(cases, first, second) and not any(beside(cases, *pair) for pair in combinations(joined, 2)):
                groups = [groups[first] if label in joined else group for label, group in enumerate(groups)]
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    return [numbers[group] for group in groups]


def follow(cases: Sequence[np.ndarray], first: int, second: int) -> bool:
    """Tell whether two labels lie behind one another along the slices, and touch, in most cases that have both."""
    both = with_both(cases, first, second)
    return bool(both) and not beside(cases, first, second) and float(np.mean([gap(*b) <= GAP for b in both])) > USUAL


def beside(cases: Sequence[np.ndarray], first: int, second: int) -> bool:
    """Tell whether two labels share more than a few slices, over all cases that have both."""
    both = with_both(cases, first, second)
    shorter = sum(int(bits.sum(1).min()) for bits in both)
    return sum(int(bits.all(0).sum()) for bits in both) > SHARED_SLICES * shorter


def with_both(cases: Sequence[np.ndarray], first: int, second: int) -> list[np.ndarray]:
    """Return the two labels' slices, bool [2, n], of the cases that have both."""
    return [bits[[first, second]] for bits in cases if bits[first].any() and bits[second].any()]


def gap(first: np.ndarray, second: np.ndarray) -> int:
    """Return the number of slices between two labels' slices, bool [n]; 0 or less where they touch or share some."""
    a, b = np.flatnonzero(first), np.flatnonzero(second)
    return int(np.abs(a[:, None] - b[None]).min()) - 1


def merge(maps: Tensor, groups: Sequence[int]) -> Tensor:
    """Return the largest value in each group of labels, [B, P, ...] -> [B, G, ...]."""
    parts = [[label for label, group in enumerate(groups) if group == number] for number in range(max(groups) + 1)]
    return torch.cat([maps[:, part].amax(1, keepdim=True) for part in parts], dim=1)
