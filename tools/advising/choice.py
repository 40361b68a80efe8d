"""Which of several ways of annotating brings most for the minutes that there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from .annotation import Annotation

BUDGETS = (15, 30, 60, 120, 240, 480)  # minutes that are looked at
LEVEL = 0.01  # of Dice; less is no difference that a few draws could show


@dataclass(frozen=True)
class Option:
    """A way of annotating and learning: its row in the tables, what is drawn, its price, Dice by data set."""

    row: str
    annotation: Annotation
    minutes: float
    dice: Mapping[str, float] = field(default_factory=dict)


def best(options: Iterable[Option], budget: float) -> Sequence[Option]:
    """Return the options within a budget that are best or level with it, the cheapest first; none where none fits.

    Compared is the mean over the data sets that all affordable options were measured on; an option that lacks one that
    most have does not take part.
    """
    affordable = [option for option in options if option.minutes <= budget and option.dice]
    most = max((len(option.dice) for option in affordable), default=0)
    compared = [option for option in affordable if len(option.dice) == most]
    if not compared:
        return []
    score = {id(option): float(np.mean(list(option.dice.values()))) for option in compared}
    top = max(score.values())
    level = [option for option in compared if score[id(option)] > top - LEVEL]
    return sorted(level, key=lambda option: (option.minutes, -score[id(option)]))
