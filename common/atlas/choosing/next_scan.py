"""Which scan to label next, once a model exists: one that it probably segments badly, unlike what has a label."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from ...threads import side_by_side
from .proposal import draw_targets
from .reach import ScanReach

REFERENCES = 2  # scans that all others are brought to
NEIGHBOURS = 3  # scans alike that are a chance, one more are a kind of scan
SPANS = 4.0  # of the distance to the third neighbour, beyond which a scan is alone
LEAST_SPAN = 0.03  # of a few scans, which look too much alike


class Next(NamedTuple):
    """A scan that is proposed, and why.

    Attributes:
        case: its id.
        quality: Dice that the model probably has there, [0, 1].
        unlike: distance to the nearest scan that has a label or was proposed before it, in medians of the distance of
            two scans; 1 where there is none.
        alone: it is like no other scan. Such ones come after all others.
    """

    case: str
    quality: float
    unlike: float
    alone: bool


def predicted_quality(rows: Iterable[Mapping[str, Any]]) -> float:
    """Return the mean `predicted_dice` of the labels of which something was found (`volume_ml`); 0 where nothing is."""
    found = [float(row["predicted_dice"]) for row in rows if float(row["volume_ml"]) > 0]
    return float(np.mean(found)) if found else 0.0


def scan_distances(scans: ScanReach, follow: Callable[[list], Iterable] = iter) -> tuple[list[str], np.ndarray]:
    """Return all case ids, sorted, and how unlike any two scans are: [N, N], symmetric, 0 to 2.

    All are brought to the same two scans, drawn by the ids alone, by affines; 1 - `likeness` there, on half the grid.
    Of the two the smaller counts: where one of them is odd itself, nothing can be brought to it. So a pair costs no
    registration of its own, and distances stay what they are when another scan gets its label.

    Args:
        scans: knows the images.
        follow: wraps the list of what is to be registered, to show progress.
    """
    ids = sorted(scans.index)
    references = draw_targets(ids, REFERENCES)
    work = [(case, reference) for reference in references for case in ids]
    aligned: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]] = {}

    def align(pair: tuple[str, str]) -> None:
        image, seen = scans.align(*pair)
        known = torch.ones_like(image) if seen is None else seen
        pooled = F.avg_pool3d(image * known, 2) / F.avg_pool3d(known, 2).clamp_min(1e-6)
        half = (F.avg_pool3d(known, 2) > 0.5).float()
        aligned[pair] = (pooled * half).flatten().cpu().numpy(), half.flatten().cpu().numpy()

    for _ in side_by_side(align, follow(work), scans.device):
        pass
    found = [
        1 - likeness(*(np.stack([aligned[case, reference][part] for case in ids]) for part in (0, 1)))
        for reference in references
    ]
    distances = np.min(found, axis=0)
    np.fill_diagonal(distances, 0.0)
    return ids, distances


def likeness(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the correlation of any two rows over the voxels that both know, times the Dice of what they know, [N, N].

    Without the second a small scan that was stretched over a corner of the others would be like them.

    Args:
        values: [N, V], 0 where nothing is known.
        known: [N, V] of 0 and 1.
    """
    values, known = values.astype(np.float64), known.astype(np.float64)
    count = np.maximum(known @ known.T, 1)
    sums = values @ known.T  # of the row's values, over what the column knows, too
    squares = np.square(values) @ known.T - sums**2 / count
    spread = np.sqrt(np.maximum(squares * squares.T, 0))
    both = values @ values.T - sums * sums.T / count
    correlation = np.divide(both, spread, out=np.zeros_like(both), where=spread > 1e-9)
    sizes = known.sum(1)
    return correlation * 2 * (known @ known.T) / np.maximum(sizes[:, None] + sizes[None], 1)


def find_alone(distances: np.ndarray) -> np.ndarray:
    """Return which scans are like no other, bool [N]: their third nearest one is further than usual by four spans.

    The distance to the k-th neighbour tells outliers (Ramaswamy, Rastogi and Shim, 2000); the span is 1.4826 median
    absolute deviations. Four scans that are like each other are no outliers, however unlike the rest: they are a kind
    of scan that a model should know. Of less than six scans nobody can tell.
    """
    number = len(distances)
    if number < 2 * NEIGHBOURS:
        return np.zeros(number, dtype=bool)
    third = np.sort(distances, axis=1)[:, NEIGHBOURS]  # a scan's first neighbour is itself
    middle = float(np.median(third))
    span = max(1.4826 * float(np.median(np.abs(third - middle))), LEAST_SPAN)
    return third > middle + SPANS * span


def choose_next(
    quality: Mapping[str, float], ids: Sequence[str], distances: np.ndarray, labelled: Iterable[str], count: int = 1
) -> list[Next]:
    """Choose scans to label, one after the other: (1 - quality) times the distance to what has a label or was chosen.

    A scan that is like no other (`find_alone`) is far from all that has a label, and a model knows nothing of it; its
    label would help no other scan, and it may be of another body part. So it comes after all others, whatever its
    product.

    Args:
        quality: case id -> Dice that the model probably has; the scans to choose from.
        ids: of all scans.
        distances: [N, N] of them, see `scan_distances`.
        labelled: ids of those that have a label.
        count: how many; all where there are fewer.
    """
    place = {case: number for number, case in enumerate(ids)}
    usual = float(np.median(distances[np.triu_indices(len(ids), 1)])) or 1.0
    alone = dict(zip(ids, find_alone(distances).tolist(), strict=True))
    near = distances[:, [place[case] for case in labelled]].min(axis=1, initial=np.inf) / usual
    rest, chosen = sorted(quality), list[Next]()
    while rest and len(chosen) < count:
        unlike = {case: min(float(near[place[case]]), 1.0 if np.isinf(near[place[case]]) else np.inf) for case in rest}
        best = max(rest, key=lambda case: (not alone[case], (1 - quality[case]) * unlike[case]))
        chosen.append(Next(best, float(quality[best]), unlike[best], alone[best]))
        near = np.minimum(near, distances[:, place[best]] / usual)
        rest.remove(best)
    return chosen
