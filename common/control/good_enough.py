"""What a model is good enough for, by its Dice on scans that it never saw: all thresholds, and the words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..scoring.metrics import POOR, percent, share_under

START = 0.2  # share of the scans under POOR up to which correcting pays: four of five are less work than drawing anew
SOME = 0.5  # up to which it pays for some of the scans
ALONE = 0.9  # Dice that every scan has to reach where nobody looks
# scans without a failure from which on fewer than 1 in 20 further ones fails, with 95 % confidence: .95 ** 59 < .05
ALONE_SCANS = 59
FEW = 6  # scans; fewer tell next to nothing
GOOD, PARTLY, BAD = "good", "partly", "bad"
RULE = (
    f"Start for correcting: at most {percent(START)} of the scans have a Dice under {POOR:.2f}; for some of them: at "
    f"most {percent(SOME)}. Volumes without a look: no scan is under {ALONE:.2f}, of {ALONE_SCANS} scans or more, for "
    "then fewer than 1 in 20 further scans is one, with 95 % confidence. A scan's Dice is the mean over its labels. "
    f"{POOR:.2f} is where Zijdenbos et al. (IEEE TMI 1994) let good agreement begin. The other limits are our choice: "
    "none was measured with people who correct. All of it holds for scans like those that were scored."
)


@dataclass(frozen=True)
class Answer:
    """A question that a reader has, `yes`, `no` or a few words, how good that is ("good", "partly", "bad"), and why."""

    question: str
    word: str
    level: str
    text: str


def summarise(dice: Mapping[str, float]) -> str:
    """Return mean, worst scan and how many are poor in a sentence; of scans -> Dice, NaN left out."""
    known = {case: value for case, value in dice.items() if not math.isnan(value)}
    if not known:
        return "No scan could be scored."
    worst = min(known, key=lambda case: known[case])
    poor = sum(value < POOR for value in known.values())
    mean = sum(known.values()) / len(known)
    return (
        f"Mean Dice {short(mean)}, worst scan {short(known[worst])} ({worst}), {poor} of {len(known)} "
        f"scan{'s' if len(known) != 1 else ''} under {short(POOR)}."
    )


def good_enough(dice: Mapping[str, float], by_label: Mapping[str, Sequence[float]]) -> list[Answer]:
    """Return what a model is good enough for, by `RULE`; [] where no scan was scored.

    Args:
        dice: scan -> mean Dice over its labels, NaN where there is none.
        by_label: label's name -> Dice of its scans.
    """
    values = [value for value in dice.values() if not math.isnan(value)]
    if not values:
        return []
    return [_start(values, by_label), _alone(values)]


def _start(values: Sequence[float], by_label: Mapping[str, Sequence[float]]) -> Answer:
    question, under = "Good enough as a start for correcting?", share_under(values)
    few = f" Only {len(values)} scan{'s were' if len(values) > 1 else ' was'} scored: this may be chance."
    caution = few if len(values) < FEW else ""
    if under > SOME:
        return Answer(question, "no", BAD, f"Most scans are less work to draw anew.{caution}")
    shares = {name: share_under(found) for name, found in by_label.items()}
    weak = [name for name, share in shares.items() if share > START]  # NaN is not
    but = f" Not of {', '.join(weak)}: more scans than that are under it." if weak and len(shares) > 1 else ""
    if under > START:
        text = f"{percent(under)} of the scans lie under {short(POOR)} and are less work to draw anew."
        return Answer(question, "some scans", PARTLY, text + but + caution)
    text = f"Four of five scans or more reach {short(POOR)}.{but}{caution}"
    return Answer(question, "in part" if but else "yes", PARTLY if but or caution else GOOD, text)


def _alone(values: Sequence[float]) -> Answer:
    question, lowest = "Good enough to read volumes without a look?", min(values)
    if lowest < ALONE:
        text = f"The worst scan has {short(lowest)}; {short(ALONE)} or more is wanted of all."
        return Answer(question, "no", BAD, text)
    if len(values) < ALONE_SCANS:
        text = (
            f"No scan is under {short(ALONE)}, but {len(values)} are too few to rule out rare failures "
            f"({ALONE_SCANS} are wanted)."
        )
        return Answer(question, "no", BAD, text)
    text = f"None of {len(values)} scans is under {short(ALONE)}. Look at some all the same."
    return Answer(question, "yes", GOOD, text)


def short(dice: float) -> str:
    """Return a Dice with two decimals, rounded down so that nothing under a limit is shown as the limit: .69."""
    return f"{math.floor(dice * 100 + 1e-9) / 100:.2f}".replace("0.", ".", 1) if dice < 1 else "1.00"
