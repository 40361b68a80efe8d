"""What a dry run says at its end: a table of the stages, time, memory and disk, and what is opened."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

from ..costs.held import MIB
from ..costs.line import NONE, Clock, Line
from ..costs.rehearsal import Rehearsal
from ..errors import printable
from .machine import memory_gib

WIDTH = 80
UNMEASURED = "data set, start, end"  # what comes between the stages


class Forecast:
    """Time, memory and disk of a real run, by a dry run of it; as text at most 80 columns wide.

    Args:
        measured: the dry run, which has ended.
        spent: by this process, from its beginning.
        folders: where a real run would write.
    """

    def __init__(self, measured: Rehearsal, spent: Clock, folders: Sequence[Path]) -> None:
        self.measured, self.lines, self.disk = measured, measured.lines, measured.disk
        self.free = min((shutil.disk_usage(_nearest(folder)).free for folder in folders), default=0)
        within = NONE
        for line in self.lines:
            within = within.more(line.in_all).more(line.more, -1)
        self.between = spent.more(measured.apart, -1).more(within, -1)
        self.total = self.between
        for line in self.lines:
            self.total = self.total.more(line.in_all)
        self.spent = spent

    @property
    def memory_mib(self) -> tuple[float, str]:
        """Resident memory at most, and in which stage: what was seen there and what more cases hold by then."""
        held, most = 0.0, (self.measured.peak_mib, UNMEASURED)
        for line in self.lines:
            held += line.held_mib
            most = max(most, (line.peak_mib + held, line.name))
        return most

    def __str__(self) -> str:
        return "\n".join(printable(line) for line in self.text())

    def text(self) -> Iterator[str]:
        """Yield what is printed, line by line."""
        yield ""
        yield "An estimate: a few cases or steps of each stage were measured here."
        yield "each: one of them more; once: what a stage does once, warming up included"
        yield ""
        yield f"{'stage':<24}{'how many':>14}{'measured':>9}{'each':>8}{'once':>8}{'in all':>9}{'CPU':>8}"
        yield f"{UNMEASURED:<63}{clock(self.between.wall):>9}{clock(self.between.cpu):>8}"
        for line in self.lines:
            yield self.row(line)
        yield ""
        wall, cpu = self.total
        yield f"time:       about {clock(wall)} (h:mm:ss), as busy as this machine was; CPU {clock(cpu)}"
        peak, stage = self.memory_mib
        here = memory_gib()
        yield f"memory:     about {peak / 1024:.1f} GiB ({stage}){f'; this machine has {here:.1f}' if here else ''}"
        if self.measured.gpu_mib:
            yield f"GPU memory: about {self.measured.gpu_mib / 1024:.1f} GiB, as measured here"
        yield f"disk:       about {size(self.disk)} in output_dir, ckpt_dir and cache_dir; free are {size(self.free)}"
        if self.measured.parameters is not None:
            yield f"parameters: {self.measured.parameters:,} of what is deployed"
        for line in self.lines:
            if line.learnt:
                yield f"            {line.learnt:,} learn in {line.name}"
        for number, said in enumerate(self.measured.opened):
            yield from _wrapped(f"{'' if number else 'opened:':<12}{said}")
        yield f"this took {clock(self.spent.wall)}; nothing of it was kept"
        if here and peak / 1024 > here:
            yield "warning: that is more memory than there is; a smaller max_voxels needs less"
        if self.disk > self.free:
            yield "warning: that is more than the room on the disk"

    def row(self, line: Line) -> str:
        """Return a stage's line of the table."""
        many = f"{line.count:.0f} {line.unit}" if line.unit else ""
        measured = f"{line.here:.0f}" if line.unit else ""
        each = seconds(line.each.wall) if line.unit else ""
        once, in_all, cpu = clock(line.once.wall), clock(line.in_all.wall), clock(line.in_all.cpu)
        return f"{line.name[:23]:<24}{many:>14}{measured:>9}{each:>8}{once:>8}{in_all:>9}{cpu:>8}"


def clock(value: float) -> str:
    """Return seconds as h:mm:ss."""
    return str(timedelta(seconds=max(0, round(value))))


def seconds(value: float) -> str:
    """Return seconds with their unit, about three digits of them."""
    return f"{value:.2f} s" if value < 10 else f"{value:.0f} s"


def size(number: float) -> str:
    """Return bytes as MiB or GiB."""
    return f"{number / MIB:.0f} MiB" if number < 1024 * MIB else f"{number / MIB / 1024:.1f} GiB"


def _nearest(folder: Path) -> Path:
    folder = folder.absolute()
    return next(parent for parent in (folder, *folder.parents) if parent.exists())


def _wrapped(text: str) -> Iterator[str]:
    yield from textwrap.wrap(text, WIDTH, subsequent_indent=" " * 12)
