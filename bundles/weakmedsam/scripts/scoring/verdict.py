"""What a run has to show for itself: more than its controls, and that it has learnt what it was taught."""

from __future__ import annotations

import math
from collections.abc import Mapping

LEARNT = 0.5  # Dice with the pseudo labels of training scans, below which more is wrong or missing than right


def against_controls(scores: Mapping[str, Mapping[str, float]], controls: Mapping[str, str]) -> str | None:
    """Return one line on the labels whose mean Dice is below a control's, or that none is; None without scores.

    Args:
        scores: label name (or "overall") -> {"method" and the name of each control: Dice}.
        controls: name -> words for it.
    """
    if not scores:
        return None
    below = []
    for label, found in scores.items():
        name = max(controls, key=lambda control: -1.0 if math.isnan(found[control]) else found[control])
        if label != "overall" and found["method"] < found[name]:
            below.append(f"{label} ({found['method']:.3f}, {controls[name]} {found[name]:.3f})")
    if below:
        return f"no result for {', '.join(below)}: below what needs no training; look at the pseudo labels"
    return f"not below {' or '.join(controls.values())} on any label"


def not_learnt(agreement: Mapping[str, float]) -> str | None:
    """Return one line on the labels that the network has not learnt from its pseudo labels; None where there is none.

    Args:
        agreement: label name -> mean Dice of the network's answer with the pseudo labels of training scans.
    """
    missed = [f"{label} ({found:.2f})" for label, found in agreement.items() if found < LEARNT]
    if not missed:
        return None
    wanted = f"wanted a Dice of {LEARNT:.2f} with the pseudo labels of the scans that it has seen"
    return f"not learnt: {', '.join(missed)}; {wanted}: longer training, or better labels"
