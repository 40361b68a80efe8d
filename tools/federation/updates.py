"""What a site may send: a change of every weight, and how many steps it stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def find_problem(params: Mapping[str, Any], shapes: Mapping[str, Sequence[int]], fixed: Sequence[str]) -> str:
    """Return what is wrong with a change of weights, in words, or nothing."""
    for kind, names in (("lacks", set(shapes) - set(params)), ("has the unknown", set(params) - set(shapes))):
        if names:
            return f"it {kind} {min(names)}" + f" and {len(names) - 1} more" * (len(names) > 1)
    for name, shape in shapes.items():
        array = np.asarray(params[name])
        if array.dtype.kind not in "fiu":
            return f"{name} has the type {array.dtype}; wanted numbers"
        if list(array.shape) != list(shape):
            return f"{name} has the shape {list(array.shape)}; wanted {list(shape)}"
        if not np.isfinite(array).all():
            return f"{name} has {int((~np.isfinite(array)).sum())} values that are no number"
        if name in fixed and array.any():
            return f"{name} was changed; wanted it as at the start, for all sites share one grid and its labels"
    return ""


def is_count(steps: Any) -> bool:
    """Whether a site's steps can weigh its update: a finite number above 0."""
    number = isinstance(steps, int | float) and not isinstance(steps, bool)
    return number and 0 < steps < float("inf")
