"""Whether images tell the slices of a label at all, beyond what their height in the scan says of them.

A slice's height alone often tells its bit nearly always, and a classifier that has learnt heights has an activation map
that lies anywhere. So slices are compared with those of the same height in other scans: of one with the label and one
without, does a classifier that knows neither scan prefer the right one?
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SAME_HEIGHT = 0.05  # of a scan's length
PERMUTATIONS = 99
LEVEL = 0.95  # share of permutations that have to be worse
RIDGE = 1.0  # penalty, for standardised features, as a share of their number


def image_evidence(
    features: Sequence[np.ndarray], bits: Sequence[np.ndarray], seed: int = 0
) -> list[tuple[float, float]]:
    """Return for each label how often the image prefers the right slice, and what it has to be above by chance alone.

    A ridge classifier of pooled features answers for each scan after learning from the others. By chance: the same
    where every scan has the bits of another one, at its own heights, so that what height says is kept.

    Args:
        features: [n, D] of the slices of each scan, in their order; two scans or more.
        bits: bool [P, n] of each scan.
        seed: of the permutations.

    Returns:
        P pairs of shares in [0, 1]; NaN where no height has both kinds, which leaves nothing to ask about.
    """
    scans = np.concatenate([np.full(len(one), number) for number, one in enumerate(features)])
    heights = np.concatenate([(np.arange(len(one)) + 0.5) / len(one) for one in features])
    answer = _held_out(np.concatenate(features).astype(float), scans)
    comparable = (np.abs(heights[:, None] - heights[None]) <= SAME_HEIGHT) & (scans[:, None] != scans[None])
    generator = np.random.default_rng(seed)
    orders = [generator.permutation(len(features)) for _ in range(PERMUTATIONS)]
    own = _preferred(answer, np.concatenate(bits, axis=1), comparable)
    chance = np.array([_preferred(answer, _exchanged(bits, order), comparable) for order in orders])
    return [
        (float(found), float(np.nanquantile(column, LEVEL)) if not np.isnan(column).all() else float("nan"))
        for found, column in zip(own, chance.T, strict=True)
    ]


def without_evidence(evidence: Sequence[tuple[float, float]], names: Sequence[str], scans: int) -> list[str]:
    """Return a line for each label whose slices the images don't tell better than chance, see `image_evidence`."""
    return [
        f"label {name}: of two slices at one height of two scans the image tells the one that has it in "
        f"{100 * found:.0f} %; wanted more than {100 * wanted:.0f} %, which chance reaches on {scans} scans: no "
        "activation map above the centre is to be expected; draw one typical box"
        for name, (found, wanted) in zip(names, evidence, strict=True)
        if not found > wanted
    ]


def _held_out(features: np.ndarray, scans: np.ndarray) -> np.ndarray:
    """Return the matrix [N, N] that turns the bits of all slices, -1 and 1, into scores by ridge, own scan left out."""
    answer = np.zeros((len(features), len(features)))
    for number in np.unique(scans):
        mine, others = scans == number, scans != number
        mean, deviation = features[others].mean(0), features[others].std(0) + 1e-6
        seen, asked = (features[others] - mean) / deviation, (features[mine] - mean) / deviation
        penalised = seen.T @ seen + RIDGE * features.shape[1] * np.eye(features.shape[1])
        # features are centred, so that the mean bit is in no product; it moves all scores of a scan alike
        answer[np.ix_(mine, others)] = asked @ np.linalg.solve(penalised, seen.T)
    return answer


def _preferred(answer: np.ndarray, bits: np.ndarray, comparable: np.ndarray) -> np.ndarray:
    """Return [P]: of pairs of a slice with the label and a comparable one without, how many have the first ahead."""
    found = []
    for own in bits:
        scores = answer @ (2.0 * own - 1)
        pairs = comparable[own][:, ~own]
        ahead = scores[own][:, None] > scores[~own][None]
        found.append(ahead[pairs].mean() if pairs.any() else np.nan)
    return np.array(found)


def _exchanged(bits: Sequence[np.ndarray], order: np.ndarray) -> np.ndarray:
    """Return bits [P, N] of all scans where each has those of another, taken at its own heights."""
    taken = []
    for own, number in zip(bits, order, strict=True):
        other = bits[number]
        place = ((np.arange(own.shape[1]) + 0.5) / own.shape[1] * other.shape[1]).astype(int)
        taken.append(other[:, place])
    return np.concatenate(taken, axis=1)
