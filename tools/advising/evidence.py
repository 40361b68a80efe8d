"""What each way of annotating brought where it was measured, and what it would cost for another data set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.files.json_file import read_json

from .annotation import Annotation, Prices
from .choice import Option

MANY = 50  # volumes; so many or more were all that there were
MEASURED = Path(__file__).with_name("measured.json")  # written by `benchmarks.label_efficiency table --json`


@dataclass(frozen=True)
class Given:
    """What a data set has: structures, training scans and their slices, and what is drawn on them.

    Attributes:
        structures: labels without the background.
        scans: training and unlabelled ones.
        slices: of all these, along the axis on which bits are set.
        volumes: scans with a whole mask.
        bits: slices that have presence bits.
    """

    structures: int
    scans: int
    slices: int
    volumes: int
    bits: int

    def lacks(self, wanted: Annotation) -> Annotation | None:
        """Return what has to be drawn before one can train so; None where the scans are too few."""
        if wanted.volumes > self.scans or wanted.slices > self.slices:
            return None
        # a whole mask holds masks of slices and bits; but slices are drawn from all scans, so they count as not there
        bits = max(0, self.slices - self.bits) if wanted.bits else 0
        return Annotation(max(0, wanted.volumes - self.volumes), wanted.slices, wanted.boxes, bits)


def read_measured(path: Path = MEASURED) -> list[dict[str, Any]]:
    """Return the entries of a file of measurements: dataset, structures, row, annotation, draws, dice, under, ...

    Raises:
        InputError: as `read_json`.
    """
    found: list[dict[str, Any]] = read_json(path, "measurements")
    return found


def options(measured: Iterable[Mapping[str, Any]], given: Given, prices: Prices) -> list[Option]:
    """Return each way of annotating that the scans allow, with what it costs here and the Dice on each measured set."""
    dice: dict[tuple[str, Annotation], dict[str, float]] = {}
    for entry in measured:
        drawn = Annotation(**entry["annotation"])
        # bits lie on all slices of all scans, and many volumes were all: how many these were there says nothing here
        volumes = drawn.volumes if drawn.volumes < MANY else given.scans
        alike = Annotation(volumes, drawn.slices, drawn.boxes, given.slices if drawn.bits else 0)
        dice.setdefault((entry["row"], alike), {})[entry["dataset"]] = entry["dice"]
    found = []
    for (row, drawn), by_set in dice.items():
        lacking = given.lacks(drawn)
        if lacking is not None:
            found.append(Option(row, drawn, lacking.minutes(prices, given.structures), by_set))
    return sorted(found, key=lambda option: (option.minutes, option.row))
