"""What the stages of a dry run say of those of a real one: some cases and steps stand for all of them."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

from ..processes import watch
from ..threads import pieces_at_once
from .held import MIB, folder_size, held_mib
from .line import NONE, Clock, Line, Loop, OpenStage
from .pieces import Pieces, case_of, let_rehearse
from .stage_meter import peak_memory_mib

SCORED = 2  # cases of those that are scored: the largest, whose memory counts, and one of middle size
LABELED = 2  # cases of those that have a label


class Rehearsal:
    """Watch a run that does two pieces or some more of each stage, and say what all of them come to.

    A case that is kept stands for some that were left out (`stands_for`), and so does what is done with it: work that
    goes case by case (`processes.watched`) is multiplied by that. What a stage does once is counted once.

    Args:
        folder: holds the run's folders.

    Attributes:
        lines: of each stage that has ended, in their order.
        opened: what the regime opens, in words.
        parameters: of the network that is deployed.
        apart: what the dry run has spent on itself.
        peak_mib: resident memory at most outside of stages. gpu_mib: of a GPU, at most.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.lines, self.opened = folder, list[Line](), list[str]()
        self.parameters: int | None = None
        self.apart, self.peak_mib, self.gpu_mib = NONE, 0.0, 0.0
        self.stands_for: dict[str, float] = {}
        self.begun, self._in_stages = Clock.now(), 0.0
        self._open: list[OpenStage] = []
        self._loops: list[Loop] = []
        self._stdout, self._nowhere = sys.stdout, io.StringIO()

    def end(self) -> None:
        """Let the process say things again, and be no dry run any more."""
        sys.stdout = self._stdout
        watch(None)
        let_rehearse(None)

    @property
    def kept(self) -> tuple[int, int, int]:
        """Cases that are kept: of a kind, two at least behind what warms up; of labelled ones; of those to score."""
        return max(3, 2 * pieces_at_once()), LABELED, SCORED

    # --- what a run asks

    def begin(self, opened: Sequence[str], stands_for: Mapping[str, float]) -> None:
        """From now on few cases stand for all, and the run, which learns nothing, says nothing more.

        Args:
            opened: what the regime opens, in words.
            stands_for: case id -> of how many cases.
        """
        self.opened, self.stands_for = list(opened), dict(stands_for)
        watch(self)
        sys.stdout = self._nowhere

    def count(self, cases: Sequence[Any]) -> float:
        """Return how many cases of a real run some stand for."""
        return sum(self._weight(case) for case in cases)

    # --- work that goes piece by piece, see `processes.Watch`

    def begins(self, pieces: Sequence[Any], at_once: int, times: float) -> None:
        self._loops.append(Loop([times * self._weight(piece) for piece in pieces], at_once, Clock.now()))
        self._loops[-1].disk = self._size()

    def done(self) -> None:
        self._loops[-1].done.append(Clock.now())

    def ends(self) -> None:
        loop = self._loops.pop()
        if not self._open or not loop.done:
            return
        outer = self._open[-1]
        if not outer.training:
            outer.loops.append(loop)
            return
        # new labels within a training are no steps of it
        one = OpenStage(Line(f"{outer.line.name}: labels", "cases"), loop.begun, 0.0, loop.disk, loops=[loop])
        taken = loop.done[-1].since(loop.begun)
        self._end(one, taken)
        outer.inner = outer.inner.more(taken)
        one.line.disk = self._grown(loop.disk) * one.ratio
        self._add(one.line)

    def watch_engine(self, engine: Engine, cases: Sequence[Any]) -> None:
        """Take each iteration of an engine for a piece of work, about one of the cases."""
        engine.add_event_handler(Events.STARTED, self.begins, cases, 1, 1.0)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.done)
        engine.add_event_handler(Events.COMPLETED, self.ends)

    # --- stages

    @contextmanager
    def stage(
        self, name: str, pieces: Pieces | None = None, unit: str = "cases", training: bool = False
    ) -> Iterator[OpenStage]:
        """Count what happens inside the `with` block as a stage; one inside another is not counted twice."""
        print(f"dry run: {name}", file=self._stdout, flush=True)
        looked = Clock.now()
        self.peak_mib = max(self.peak_mib, peak_memory_mib())
        line = Line(name, unit if pieces is None else pieces.unit)
        one = OpenStage(line, looked, held_mib(), self._size(), pieces, training=training)
        one.begun = Clock.now()
        self._look(looked)
        self._open.append(one)
        yield one
        taken = Clock.now().since(one.begun)
        self._open.remove(one)
        self._end(one, taken)
        looked = Clock.now()
        here, real = one.files
        line.held_mib = max(0.0, held_mib() - one.held) * (one.ratio - 1)
        kept = one.ratio if one.kept is None or not line.here else max(1.0, one.kept / line.here)
        line.disk = max(0.0, self._grown(one.disk) - here) * kept + real
        line.peak_mib = peak_memory_mib()
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            self.gpu_mib = max(self.gpu_mib, torch.cuda.max_memory_allocated() / MIB)
        if self._open:
            self._open[-1].inner = self._open[-1].inner.more(taken)
        self._look(looked)
        self._add(line, pieces is not None and pieces.again)

    def _look(self, begun: Clock) -> None:
        """Leave out of all what a look at memory and disk has taken since a moment."""
        spent = Clock.now().since(begun)
        self.apart = self.apart.more(spent)
        if self._open:
            self._open[-1].inner = self._open[-1].inner.more(spent)

    def _size(self) -> float:
        return folder_size(self.folder)

    def _grown(self, before: float) -> float:
        """Return by how many bytes the folders have grown in what ends now, and leave that out of what is around."""
        grown = self._size() - before
        self._in_stages += grown
        if self._open:
            self._open[-1].disk += grown
        return max(0.0, grown)

    @property
    def disk(self) -> float:
        """Bytes in the folders of a real run at its end."""
        return sum(line.disk for line in self.lines) + max(0.0, self._size() - self._in_stages)

    def _end(self, one: OpenStage, taken: Clock) -> None:
        line, own = one.line, taken.more(one.inner, -1)
        if one.loops:
            self._end_loops(one)
        elif one.pieces is not None and one.pieces.here:
            line.here, line.count, one.kept = one.pieces[:3]
            line.each = Clock(*(value / line.here for value in own))
            line.more = NONE.more(line.each, line.count - line.here)
        elif not one.training:  # whose `FewSteps` knows
            line.unit = ""
        line.in_all = own.more(line.more)

    def _end_loops(self, one: OpenStage) -> None:
        line, total, most = one.line, NONE, -1.0
        for loop in one.loops:
            steady, stands = loop.steady(), loop.stands_for[: len(loop.done)]
            if one.pieces is not None and len(one.loops) == 1:
                stands = [one.pieces.in_all / len(stands)] * len(stands)
                one.kept = one.pieces.kept
            cost = NONE
            for taken, number in zip(steady, stands, strict=True):
                cost = cost.more(taken, number)
                line.more = line.more.more(taken, number - 1)
            total = total.more(cost)
            if cost.wall > most:
                most, line.here, line.count = cost.wall, len(stands), sum(stands)
        line.each = Clock(*(value / max(line.count, 1.0) for value in total))

    def _add(self, line: Line, again: bool = False) -> None:
        """Keep a line; a stage that comes more than once has a single one.

        Args:
            again: the line tells of all times.
        """
        known = next((one for one in self.lines if one.name == line.name), None)
        if known is None:
            self.lines.append(line)
            return
        done = known.in_all.more(known.more, -1).more(line.in_all.more(line.more, -1))
        if again:
            known.here += line.here
            known.each = Clock(*(sum(two) / 2 for two in zip(known.each, line.each, strict=True)))
            known.more = NONE.more(known.each, max(0.0, known.count - known.here))
            known.disk, known.held_mib = max(known.disk, line.disk), max(known.held_mib, line.held_mib)
        else:
            known.here, known.count = max(known.here, line.here), max(known.count, line.count)
            known.each, known.more = known.each.more(line.each), known.more.more(line.more)
            known.disk, known.held_mib = known.disk + line.disk, known.held_mib + line.held_mib
        known.in_all = done.more(known.more)
        known.peak_mib = max(known.peak_mib, line.peak_mib)

    def _weight(self, piece: Any) -> float:
        return self.stands_for.get(case_of(piece), 1.0)
