"""TODO-DOC."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import wilcoxon

from common.errors import InputError


def wilcoxon_paired(a: Sequence[float], b: Sequence[float]) -> dict[str, float]:
    """Compare paired scores with Wilcoxon's signed-rank test (scipy, two-sided); pairs with a NaN are left out.

    Returns:
        mean_difference (of a - b), wins (pairs with a > b), n (pairs compared), p (1 where no pair differs).

    Raises:
        InputError: a and b differ in length.
    """
    if len(a) != len(b):
        raise InputError(f"wilcoxon_paired: found {len(a)} and {len(b)} scores, wanted pairs")
    difference = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    difference = difference[~np.isnan(difference)]
    p = float(wilcoxon(difference).pvalue) if np.any(difference) else 1.0
    mean = float(difference.mean()) if difference.size else math.nan
    return {"mean_difference": mean, "wins": int((difference > 0).sum()), "n": int(difference.size), "p": p}
