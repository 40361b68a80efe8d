"""Which scans to draw labels on: those that reach the others best, chosen before any label exists."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

from ...threads import side_by_side
from .reach import Reached, ScanReach

TARGETS = 8  # scans that every other one is registered to
FIRST = 4  # of these, to begin with
FEW = 8  # candidates that are looked at closely
FOR_EACH = 4  # more of them, for each scan that is wanted beside the first

# name -> number, the larger the better; in the first look, and in the close one
QUICK: Mapping[str, Callable[[Reached], float]] = {"correlation": lambda r: r.correlation, "size": lambda r: -r.growth}
CLOSE: Mapping[str, Callable[[Reached], float]] = {
    "similarity": lambda r: r.local or 0.0,
    "size": lambda r: -r.growth,
    "bending": lambda r: -(r.bending or 0.0),
}


class Proposal(NamedTuple):
    """What was chosen, and why.

    Attributes:
        chosen: case ids, the best first.
        reach: case id -> how well it reaches the others beside the other candidates that were looked at closely, [0,
            1]: the mean of its ranks; the best ones first.
        found: case id -> mean of what its registrations came to.
        targets: the scans that were reached, or not.
    """

    chosen: list[str]
    reach: dict[str, float]
    found: dict[str, Reached]
    targets: list[str]


def propose(
    scans: ScanReach, candidates: Sequence[str], count: int = 1, follow: Callable[[list], Iterable] = iter
) -> Proposal:
    """Choose the candidates whose registrations to the other scans look best, and have to change least.

    All are brought to 4 of 8 drawn scans by an affine; the best 8 to all of them by a deformation, too. How alike the
    images become, how little the size changes and how little has to bend are ranked for each of the 8 among the
    candidates, so that one scan of another contrast or field of view decides nothing; the mean rank decides. Over
    all pairs of three data sets it orders atlases by the Dice that they reach (Spearman .7 to .8), where the
    similarity of the scans as they lie does not (.2 to .45; docs/one_shot.md). Several candidates are chosen so that
    each of the 8 is reached well by one of them (k-medoids by exchange: Kaufman and Rousseeuw, 1990).

    Args:
        scans: knows the images.
        candidates: case ids to choose from.
        count: how many; all where there are fewer.
        follow: wraps the list of pairs that are to be registered, to show progress.
    """
    targets = draw_targets(list(scans.index), max(TARGETS, 2 * count))
    closely = sorted(candidates)
    few = FEW + FOR_EACH * (count - 1)
    if len(closely) > few:
        first = rank_pairs(measure(scans, closely, targets[:FIRST], False, follow), QUICK)
        order = np.argsort(-mean_reach(first), kind="stable")
        closely = [closely[index] for index in order[:few]]
    pairs = measure(scans, closely, targets, True, follow)
    ranks = rank_pairs(pairs, CLOSE)
    reach = mean_reach(ranks)
    chosen = choose_medoids(ranks, min(count, len(closely)))
    order = np.argsort(-reach, kind="stable")
    return Proposal(
        chosen=[closely[index] for index in chosen],
        reach={closely[index]: float(reach[index]) for index in order},
        found={closely[index]: mean_of(pairs[index]) for index in order},
        targets=targets,
    )


def compare(scans: ScanReach, case: str, follow: Callable[[list], Iterable] = iter) -> tuple[float, dict[str, float]]:
    """Return the share of up to 7 other scans that a given one is better than in reaching 8, and theirs, best first.

    By affines alone: this judges a choice that was made, in less than a minute.
    """
    others = draw_targets([other for other in scans.index if other != case], FEW - 1)
    candidates = [case, *others]
    targets = draw_targets(list(scans.index), TARGETS)
    reach = mean_reach(rank_pairs(measure(scans, candidates, targets, False, follow), QUICK))
    better = {candidates[index]: float(reach[index]) for index in np.argsort(-reach, kind="stable")}
    share = float((reach[1:] < reach[0]).mean()) if others else 1.0
    return share, better


def pairs_to_propose(scans: float, candidates: float) -> float:
    """Return how many pairs `propose` brings together; the first look, by affines alone, counts as much as the close
    one, which is too much."""
    quick = candidates * min(FIRST, scans) if candidates > FEW else 0.0
    return (quick + min(candidates, FEW) * min(TARGETS, scans)) * (1 - 1 / max(scans, 1))


def pairs_to_compare(scans: float) -> float:
    """Return how many pairs `compare` brings together by an affine."""
    return min(FEW, scans) * min(TARGETS, scans) * (1 - 1 / max(scans, 1))


def draw_targets(cases: Sequence[str], count: int) -> list[str]:
    """Return up to so many of the cases, drawn by their ids alone."""
    ids = sorted(cases)
    return random.Random(0).sample(ids, min(count, len(ids)))


def measure(
    scans: ScanReach,
    candidates: Sequence[str],
    targets: Sequence[str],
    deform: bool,
    follow: Callable[[list], Iterable] = iter,
) -> list[list[Reached | None]]:
    """Return what each candidate's registration to each target comes to; None of a scan to itself."""
    table: dict[tuple[str, str], Reached | None] = {}

    def reach(pair: tuple[str, str]) -> None:
        moving, fixed = pair
        table[pair] = None if moving == fixed else scans.reach(moving, fixed, deform)

    for _ in side_by_side(reach, follow(list(product(candidates, targets))), scans.device):
        pass
    return [[table[moving, fixed] for fixed in targets] for moving in candidates]


def rank_pairs(pairs: Sequence[Sequence[Reached | None]], by: Mapping[str, Callable[[Reached], float]]) -> np.ndarray:
    """Return the mean of each pair's ranks among the candidates, [candidates, targets] in [0, 1]; NaN of none."""
    ranks = np.zeros((len(pairs), len(pairs[0])))
    for number in by.values():
        values = np.array([[np.nan if pair is None else number(pair) for pair in row] for row in pairs])
        places = rankdata(values, axis=0, nan_policy="omit") - 1
        ranks += places / np.maximum((~np.isnan(values)).sum(0) - 1, 1) / len(by)
    return ranks


def mean_reach(ranks: np.ndarray) -> np.ndarray:
    """Return the mean over targets that are another scan, [candidates]."""
    known = ~np.isnan(ranks)
    return np.where(known, ranks, 0.0).sum(1) / np.maximum(known.sum(1), 1)


def mean_of(row: Sequence[Reached | None]) -> Reached:
    """Return the mean of what a scan's registrations came to."""
    found = [pair for pair in row if pair is not None]
    means = [np.mean([value or 0.0 for value in values]) for values in zip(*found, strict=True)]
    return Reached(*map(float, means)) if found else Reached(1.0, 1.0, 0.0, 0.0)


def choose_medoids(reach: np.ndarray, count: int) -> list[int]:
    """Return the candidates of which one at least reaches each target well, the best single one first.

    Args:
        reach: [candidates, targets] in [0, 1]; NaN of a scan to itself, which it needs not reach.
    """

    def covered(chosen: Sequence[int]) -> float:
        rows = reach[list(chosen)]
        best = np.max(np.where(np.isnan(rows), -1.0, rows), axis=0)[~np.isnan(rows).any(0)]
        return float(best.mean()) if len(best) else 1.0

    chosen: list[int] = []
    while len(chosen) < count:
        rest = [number for number in range(len(reach)) if number not in chosen]
        chosen.append(max(rest, key=lambda number: covered([*chosen, number])))
    improved = count > 1
    while improved:
        improved = False
        for place, other in product(range(count), range(len(reach))):
            exchanged = [*chosen[:place], other, *chosen[place + 1 :]]
            if other not in chosen and covered(exchanged) > covered(chosen) + 1e-9:
                chosen, improved = exchanged, True
    return chosen if count == 1 else sorted(chosen, key=lambda number: -mean_reach(reach)[number])
