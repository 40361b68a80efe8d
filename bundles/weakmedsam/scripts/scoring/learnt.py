"""Whether a network has learnt what it was taught."""

from __future__ import annotations

from collections.abc import Mapping

LEARNT = 0.5  # Dice with the pseudo labels of training scans, below which more is wrong or missing than right


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
