"""Look for series, segment what is new and complete, go on: each once, whatever happens in between."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from common.errors import InputError
from common.files.atomic_write import write_atomic
from common.serving.prediction_log import describe_volumes

from .dicomweb import Unreachable
from .held_bundle import Segmented
from .journal import Journal
from .merged_review import FILE, MergedReview, as_table
from .results import Results
from .series import Series

OUT = "out"  # folder of the work at hand that the bundle writes to


class Source(Protocol):
    """Where series come from."""

    unreadable: int

    def find(self) -> Iterable[Series]: ...

    def bring(self, series: Series, work: Path) -> Path: ...


class Store(Protocol):
    """What is given each segmentation."""

    def store(self, file: Path) -> None: ...


class Model(Protocol):
    """What segments."""

    about: dict[str, str]

    def segment(self, scan: Path) -> Segmented: ...


@dataclass
class Patience:
    """How long to wait, in seconds, and how often to try.

    settle: that a series has not changed before it counts as complete.
    poll: between two looks.
    tries: of a series that fails.
    """

    settle: float = 60.0
    poll: float = 30.0
    tries: int = 3


class Service:
    """Segment what a source has, one series after the other.

    Args:
        source: of series.
        model: that writes into `results.work`/out.
        results: ledger and folder.
        journal: of what is done.
        patience: see there.
        store: a server that gets each segmentation; None: none does.
        stop: set, it ends after the series at hand.
    """

    def __init__(
        self,
        source: Source,
        model: Model,
        results: Results,
        journal: Journal,
        patience: Patience | None = None,
        store: Store | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self.source, self.model, self.results, self.journal, self.store = source, model, results, journal, store
        self.patience = patience or Patience()
        self.review = MergedReview(results.folder)
        self.stop = stop or threading.Event()
        self.done, self.failed = 0, 0
        self._since: dict[str, tuple[int, float]] = {}  # key -> mark, and since when it is that
        self._refused: dict[str, int] = {}  # key -> how often a server has not taken it
        self._silent, self._unreadable = False, 0

    def run(self, once: bool = False) -> None:
        """Go on until `stop` is set or, where `once`, nothing is left.

        Raises:
            InputError: results can't be written; or, where `once`, the server gives no answer.
        """
        self.review.update()
        while not self.stop.is_set():
            left = self._look(once)
            self.review.update()
            if once and not left:
                break
            self.stop.wait(min(self.patience.poll, 1 + self.patience.settle) if once else self.patience.poll)
        self.review.update()

    def _look(self, once: bool) -> bool:
        """Do what is ready; return whether something is left to do later."""
        left = False
        try:
            found = [series for series in self.source.find() if self.results.part.holds(series.key)]
            self._note_source()
            for series in found:
                if self.stop.is_set():
                    return True
                if not self.results.is_done(series):
                    left |= not (self._is_settled(series) and self._take(series))
                    self.review.update(now=False)
                self._send_all()
        except Unreachable as error:
            if once:
                raise InputError(f"the server: {error}; wanted one that answers") from error
            if not self._silent:
                self.journal.note(f"the server: {error}; asked again every {self.patience.poll:g} s")
            self._silent = True
            return True
        return self._send_all() or left

    def _note_source(self) -> None:
        if self._silent:
            self.journal.note("the server answers again")
        self._silent = False
        if self.source.unreadable != self._unreadable:
            self.journal.note(f"{self.source.unreadable} files begin as DICOM and can't be read")
        self._unreadable = self.source.unreadable

    def _is_settled(self, series: Series) -> bool:
        """Return whether a series is as it was for long enough, by its files' times or by what was seen of it."""
        if series.age is not None and series.age >= self.patience.settle:
            return True
        now = time.monotonic()
        mark, since = self._since.get(series.key, (None, now))
        self._since[series.key] = (series.mark, since if mark == series.mark else now)
        # of files' times one that lies ahead of this machine's clock says nothing
        watched = series.age is None or series.age < 0
        return watched and now - self._since[series.key][1] >= self.patience.settle

    def _take(self, series: Series) -> bool:
        """Segment a series; return whether it is done with, well or not."""
        results, number = self.results, self.results.begin(series)
        self._since.pop(series.key, None)
        if number > self.patience.tries:
            lost = "the process was ended each time while it was at it, perhaps for want of memory"
            self._give_up(series, Segmented([lost]), number - 1)
            return True
        broken = None
        try:
            scan = self.source.bring(series, results.work)
        except Unreachable as error:
            found, broken = Segmented([f"it could not be fetched: {error}"]), error
        except OSError as error:
            found = Segmented([f"its files can't be read ({error.strerror or type(error).__name__})"])
        else:
            found = self.model.segment(scan)
        if found.problems and number < self.patience.tries:
            self._say(series, f"not segmented, try {number} of {self.patience.tries}: {found.problems[0]}", found)
        elif found.problems:
            self._give_up(series, found, number)
        else:
            self._keep(series, found)
        if broken is not None:
            raise broken
        return not found.problems or number >= self.patience.tries

    def _keep(self, series: Series, found: Segmented) -> None:
        folder = self.results.work / OUT / series.key
        for file in (self.results.work / OUT).glob("review.*"):
            os.rename(file, folder / file.name)
        entry: dict[str, Any] = {"volumes_ml": {str(label): round(ml, 3) for label, ml in found.volumes.items()}}
        entry |= {"why": found.why, "notes": found.notes, "seconds": round(found.seconds, 2), **self.model.about}
        self.results.finish(series, entry, folder)
        look = "" if found.why is None else f"  look: {'yes' if found.why else 'no'}"
        self._say(series, f"{describe_volumes(found.volumes, found.labels)}{look}", found)
        self.done += 1

    def _give_up(self, series: Series, found: Segmented, tries: int) -> None:
        row = {"case": series.key, "look": "yes", "why": f"not segmented: {found.problems[0]}"}
        folder = self.results.work / "nothing"
        write_atomic(folder / FILE, as_table([[row]]))
        self.results.finish(series, {"problems": found.problems, "said": found.said, **self.model.about}, folder)
        self._say(series, f"not segmented, given up after {tries} tries: {found.problems[0]}", found)
        self.failed += 1

    def _say(self, series: Series, text: str, found: Segmented) -> None:
        number = "" if series.number is None else f" (series {series.number})"
        self.journal.note(f"{series.key}{number}  {found.seconds:.1f} s  {text}")

    def _send_all(self) -> bool:
        """Give the server what it doesn't have yet; return whether something is left to give it later."""
        left = False
        if self.store is None:
            return left
        for key, file in self.results.unsent():
            if self._refused.get(key, 0) >= self.patience.tries:
                continue
            start = time.perf_counter()
            try:
                self.store.store(file)
            except Unreachable as error:
                self._refused[key] = self._refused.get(key, 0) + 1
                often = f"try {self._refused[key]} of {self.patience.tries}"
                self.journal.note(f"{key}  not stored, {often}: {error}")
                left |= self._refused[key] < self.patience.tries
                continue
            except OSError as error:
                raise InputError(f"{file}: can't be read ({error.strerror})") from error
            self.results.note_sent(key)
            self.journal.note(f"{key}  {time.perf_counter() - start:.1f} s  stored")
        return left
