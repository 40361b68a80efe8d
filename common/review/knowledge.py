"""What a training has seen, so that a prediction can be judged by it: kept as review.json beside model.pt."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import isotonic_regression

from ..errors import InputError
from ..files.atomic_write import write_atomic
from .calibration import Calibration, read_calibration

if TYPE_CHECKING:  # torch and MONAI aren't wanted where a file is only read
    from .features import Features

FILE = "review.json"
ANCHORS = np.linspace(0, 1, 11)  # where nothing was seen a score is a Dice: four sets had a mean error of .04 to .15 so
ANCHOR_WEIGHT = 0.5
WIDE = 0.25  # of the interval where nothing was seen, Dice to either side
COVERED = 0.9  # share of cases that the interval should hold
LEAST_SPAN = {"volume": 0.2, "spread": 0.08, "image": 0.03}  # a few cases look too much alike
FEWEST = 3  # cases from which on something can be unlike them


@dataclass
class Knowledge:
    """Of a model: sizes, shapes and images of what it has learnt from, and what Dice a score has come to.

    Attributes:
        model: sha256 of its file; of another model nothing of this is true.
        source: where it is from, in words.
        volume, spread: label value -> (median, span) over cases, of log ml and of the shape's spread.
        image: for each channel and quantile (median, span) over cases.
        handedness: what tells a mirrored scan, the fields of a `Handedness`; None where nothing does.
        scores, dice: a step function that rises, see `predict`.
        below, above: Dice that the interval goes to either side.
        calibration: of its probabilities.
    """

    model: str = ""
    source: str = "nothing: a score as it is"
    volume: dict[int, tuple[float, float]] = field(default_factory=dict)
    spread: dict[int, tuple[float, float]] = field(default_factory=dict)
    image: list[list[tuple[float, float]]] = field(default_factory=list)
    handedness: dict[str, Any] | None = None
    scores: list[float] = field(default_factory=lambda: [0.0, 1.0])
    dice: list[float] = field(default_factory=lambda: [0.0, 1.0])
    below: float = WIDE
    above: float = WIDE
    calibration: Calibration = field(default_factory=Calibration)

    def predict(self, score: float) -> tuple[float, float, float]:
        """Return the Dice to expect of a score, and the ends of its interval."""
        dice = float(np.interp(score, self.scores, self.dice))
        return dice, max(dice - self.below, 0.0), min(dice + self.above, 1.0)

    def unlike(self, value: int, features: Features) -> dict[str, float]:
        """Return how many spans volume and shape of a label are from the middle of what was learnt from."""
        found: dict[str, float] = {}
        if value in self.volume and features.volume_ml > 0:
            middle, span = self.volume[value]
            found["volume"] = (math.log(features.volume_ml) - middle) / span
            middle, span = self.spread[value]
            found["shape"] = (features.spread - middle) / span
        return found

    def unlike_image(self, quantiles: Sequence[Sequence[float]]) -> float:
        """Return how many spans an image's quantiles [C, 5] are away at most; 0 where nothing is known."""
        pairs = [
            abs(value - middle) / span
            for own, known in zip(quantiles, self.image, strict=False)
            for value, (middle, span) in zip(own, known, strict=True)
        ]
        return max(pairs, default=0.0)

    def save(self, model: Path) -> None:
        """Write it beside a model's file."""
        write_atomic(model.with_name(FILE), json.dumps({**asdict(self), "model": sha256_of(model)}, indent=1) + "\n")


def read_knowledge(model: str | Path) -> Knowledge:
    """Return what lies beside a model's file; nothing where there is no such file, or it is of another model.

    Raises:
        InputError: it can't be read.
    """
    path = Path(model).expanduser().with_name(FILE)
    if not path.is_file():
        return Knowledge()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        known = Knowledge(**content)
        if known.handedness is not None and set(known.handedness) != {"mean", "told", "margin"}:
            raise ValueError(f"handedness has {', '.join(known.handedness)}; wanted mean, told, margin")
        known.calibration = read_calibration(content.get("calibration", {}))  # models of before know none
        known.volume, known.spread = (
            {int(value): (float(middle), float(span)) for value, (middle, span) in one.items()}
            for one in (known.volume, known.spread)
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: {error}; wanted what train.json wrote, or no such file") from error
    return known if known.model == sha256_of(Path(model).expanduser()) else Knowledge()


def learn(
    cases: Sequence[Mapping[int, Features]],
    images: Sequence[Sequence[Sequence[float]]],
    dice: Sequence[Mapping[int, float]],
    source: str,
    handedness: dict[str, Any] | None = None,
) -> Knowledge:
    """Return what cases tell.

    Args:
        cases: label value -> features, of each case.
        images: quantiles [C, 5] of each case.
        dice: label value -> Dice, of each case; {} of one without a truth that may be looked at.
        source: where they are from, in words.
        handedness: of the scans.
    """
    known = Knowledge(source=source, handedness=handedness)
    if len(cases) >= FEWEST:
        for value in cases[0]:
            own = [case[value] for case in cases if case[value].volume_ml > 0]
            if len(own) >= FEWEST:
                known.volume[value] = usual([math.log(one.volume_ml) for one in own], LEAST_SPAN["volume"])
                known.spread[value] = usual([one.spread for one in own], LEAST_SPAN["spread"])
        channels, quantiles = len(images[0]), len(images[0][0])
        known.image = [[usual([image[c][q] for image in images], LEAST_SPAN["image"]) for q in range(quantiles)]
                       for c in range(channels)]  # fmt: skip
    points = [[(case[value].score, found) for value, found in own.items() if not math.isnan(found)]
              for case, own in zip(cases, dice, strict=True)]  # fmt: skip
    known.scores, known.dice = _rising([point for rest in points for point in rest])
    missed: list[float] = []
    for number, own_points in enumerate(points):  # what a case has no part in, so that it can be missed
        scores, values = _rising([point for other, rest in enumerate(points) if other != number for point in rest])
        missed += [found - float(np.interp(score, scores, values)) for score, found in own_points]
    if missed:
        missed += [-WIDE, WIDE]  # of few cases the ends are not known
        low, high = np.quantile(missed, [(1 - COVERED) / 2, (1 + COVERED) / 2])
        known.below, known.above = max(-float(low), 0.02), max(float(high), 0.02)
    return known


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _rising(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Return scores and Dice of an isotonic regression of points (score, Dice), between 0 and 1."""
    pairs = sorted([(s, d, 1.0) for s, d in points] + [(float(a), float(a), ANCHOR_WEIGHT) for a in ANCHORS])
    scores, dice, weights = (np.array(column) for column in zip(*pairs, strict=True))
    fitted = isotonic_regression(dice, weights=weights).x
    return scores.tolist(), fitted.tolist()


def usual(values: Sequence[float], least: float) -> tuple[float, float]:
    """Return the middle of numbers and their span around it: median, and 1.4826 median distances from it or `least`."""
    middle = float(np.median(values))
    return middle, max(1.4826 * float(np.median(np.abs(np.array(values) - middle))), least)
