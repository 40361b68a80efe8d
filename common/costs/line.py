"""What a stage costs, as far as is known from a few of its pieces."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from .pieces import Pieces
from .stage_meter import cpu_seconds


class Clock(NamedTuple):
    """Wall and CPU seconds: a moment, or what lies between two."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Clock:
        return cls(time.perf_counter(), cpu_seconds())

    def since(self, before: Clock) -> Clock:
        return Clock(self.wall - before.wall, self.cpu - before.cpu)

    def more(self, other: Clock, times: float = 1.0) -> Clock:
        """Return both together, the other one so many times."""
        return Clock(self.wall + times * other.wall, self.cpu + times * other.cpu)


NONE = Clock(0.0, 0.0)


@dataclass
class Line:
    """What a stage costs in a real run, as far as is known from a few of its pieces.

    Attributes:
        unit: what its pieces are: cases, steps; "" where it is done as a whole.
        here, count: pieces that were done, and those of a real run.
        each: of a piece more; the first one, which warms up, is left out.
        in_all: all of them, and what is done once.
        more: `in_all` without what it took here.
        peak_mib: resident memory at most. held_mib: of tensors that stay, more than here.
        disk: bytes that stay in the run's folders.
    """

    name: str
    unit: str = ""
    here: float = 0.0
    count: float = 0.0
    each: Clock = NONE
    in_all: Clock = NONE
    more: Clock = NONE
    peak_mib: float = 0.0
    held_mib: float = 0.0
    disk: float = 0.0
    learnt: int = 0

    @property
    def once(self) -> Clock:
        """What is done once, warming up included."""
        left = self.in_all.more(self.each, -self.count)
        return Clock(max(0.0, left.wall), max(0.0, left.cpu))


@dataclass
class Loop:
    """Pieces that were done one after the other, or some at once: when each was done, and what each stands for."""

    stands_for: list[float]
    at_once: int
    begun: Clock
    done: list[Clock] = field(default_factory=list)
    disk: float = 0.0  # bytes in the run's folders before

    def steady(self) -> list[Clock]:
        """Return what each piece takes, the first ones as the others do."""
        moments, first = [self.begun, *self.done], min(self.at_once, len(self.done))
        if len(self.done) <= first:
            mean = moments[-1].since(self.begun)
            return [Clock(mean.wall / first, mean.cpu / first)] * first
        taken = [after.since(before) for before, after in pairwise(moments)]
        late = moments[-1].since(moments[first])
        mean = Clock(*(value / (len(self.done) - first) for value in late))
        if self.at_once > 1:  # what is done side by side is no piece's own
            return [mean] * len(taken)
        return [Clock(*map(min, taken[0], mean)), *taken[1:]]


@dataclass
class OpenStage:
    """A stage that is under way."""

    line: Line
    begun: Clock
    held: float
    disk: float
    pieces: Pieces | None = None
    inner: Clock = NONE
    loops: list[Loop] = field(default_factory=list)
    kept: float | None = None
    training: bool = False
    files: tuple[float, float] = (0.0, 0.0)  # bytes of what a training keeps of itself: here, and in a real run

    @property
    def ratio(self) -> float:
        """Pieces of a real run, for each that was done."""
        return max(1.0, self.line.count / self.line.here) if self.line.here and not self.training else 1.0
