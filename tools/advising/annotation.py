"""What is drawn for a training, and how many minutes a person needs for it."""

from __future__ import annotations

from dataclasses import dataclass, fields

MINUTES: dict[str, float] = {"volume": 30.0, "slice": 1.0, "box": 0.1, "bit": 1 / 60}  # assumptions, each structure


@dataclass(frozen=True)
class Prices:
    """Minutes of annotation, each for one structure: a whole volume, a mask on a slice, a box, a presence bit."""

    volume: float = MINUTES["volume"]
    slice: float = MINUTES["slice"]
    box: float = MINUTES["box"]
    bit: float = MINUTES["bit"]

    def said(self) -> str:
        """Return them in a line."""
        shown = [f"{name} {minutes(getattr(self, name))}" for name in (field.name for field in fields(self))]
        return f"prices, a structure: {', '.join(shown)}"


@dataclass(frozen=True)
class Annotation:
    """What a training learns from: whole volumes, masks on single slices, boxes, and slices that have presence bits."""

    volumes: int = 0
    slices: int = 0
    boxes: int = 0
    bits: int = 0

    def minutes(self, prices: Prices, structures: int = 1) -> float:
        """Return what it costs, for so many structures in each."""
        each = (
            self.volumes * prices.volume + self.slices * prices.slice + self.boxes * prices.box + self.bits * prices.bit
        )
        return structures * each

    def said(self) -> str:
        """Return it in words: "20 slices, 3680 bits"."""
        counts = {"volume": self.volumes, "slice": self.slices, "box": self.boxes, "bit": self.bits}
        many = {"box": "boxes"}
        return ", ".join(
            f"{count} {name if count == 1 else many.get(name, name + 's')}" for name, count in counts.items() if count
        )


def minutes(time: float) -> str:
    """Return minutes as a person says them: "1 s", "20 min", "2.5 h"."""
    if time < 1:
        return f"{60 * time:.0f} s"
    return f"{time:.0f} min" if time < 100 else f"{time / 60:.1f} h"
