"""What was done: a folder for each series, which appears whole or not at all and is its own entry in the ledger."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.errors import InputError
from common.files.atomic_write import write_atomic
from common.files.folder_lock import FolderLock
from common.files.json_file import read_json
from common.files.temporary import remove_leftovers

from .series import KEY, Part, Series

ENTRY = "series.json"
ROOM = 256 << 20  # bytes; where they are missing, every scan would fail
DEPTH = 2  # folders below that of results where something is written
STATE = ".watch"  # folder of what isn't a result


class Results:
    """The folder of results, as one part of the work sees it; at most one process a part.

        OUT/review.csv              of all series (`MergedReview`)
        OUT/<key>/series.json       the entry: which series, how much of it, with what; its other files may be removed
        OUT/<key>/...               the result
        OUT/.watch/<part>/          tries.json, and the work at hand

    Args:
        folder: made where it is missing.
        part: whose series these are.

    Raises:
        InputError: it can't be written, or another process does this part.
    """

    def __init__(self, folder: Path, part: Part) -> None:
        self.folder, self.part = folder.absolute(), part
        state = self.folder / STATE / f"{part.number}_of_{part.count}"
        self._lock = FolderLock(state)
        self._lock.take()
        self._tries_file, self.work = state / "tries.json", state / "work"
        self.entries = {key: entry for key in self.keys() if part.holds(key) and (entry := self._read(key))}
        self.tries = self._read_tries()
        remove_leftovers(self.folder, depth=DEPTH)
        self.empty_work()

    def close(self) -> None:
        """Let another process do this part."""
        shutil.rmtree(self.work, ignore_errors=True)
        self._lock.release()

    def keys(self) -> list[str]:
        """Return the keys of all series that have a result, of other parts, too."""
        return sorted(entry.name for entry in os.scandir(self.folder) if KEY.fullmatch(entry.name) and entry.is_dir())

    def is_done(self, series: Series) -> bool:
        """Return whether there is a result of all that there is of a series."""
        entry = self.entries.get(series.key)
        return entry is not None and entry["mark"] >= series.mark

    def begin(self, series: Series) -> int:
        """Note that a series is begun, before it is, and return which try this is.

        So a scan that ends the process, for want of memory perhaps, is not begun forever.

        Raises:
            InputError: there is no room left for results.
        """
        if (free := shutil.disk_usage(self.folder).free) < ROOM:
            raise InputError(f"{self.folder}: has {free >> 20} MiB left; wanted {ROOM >> 20} MiB at least")
        earlier = self.tries.get(series.key)
        count = 1 + (earlier["count"] if earlier is not None and earlier["mark"] >= series.mark else 0)
        self.tries[series.key] = {"mark": series.mark, "count": count}
        self._write_tries()
        self.empty_work()
        return count

    def finish(self, series: Series, entry: Mapping[str, Any], result: Path | None) -> None:
        """Put a result in its place; that of less of the series gives way.

        Args:
            entry: what series.json says besides the series.
            result: folder in `work`; None: nothing came of it but the entry.
        """
        folder = self.work / "result" if result is None else result
        folder.mkdir(parents=True, exist_ok=True)
        entry = {"series": series.name, "number": series.number, "mark": series.mark, **entry}
        write_atomic(folder / ENTRY, json.dumps(entry, indent=1) + "\n")
        place = self.folder / series.key
        try:
            if place.exists():
                os.rename(place, self.work / "before")
            os.rename(folder, place)
        except OSError as error:
            raise InputError(f"{place}: can't be written ({error.strerror}); wanted a folder that can be") from error
        self.entries[series.key] = entry
        self.tries.pop(series.key, None)
        self._write_tries()
        self.empty_work()

    def unsent(self) -> list[tuple[str, Path]]:
        """Return key and file of the segmentations that no server has been given yet."""
        keys = [key for key, entry in self.entries.items() if not entry.get("sent")]
        files = {key: self.folder / key / f"{key}_seg.dcm" for key in keys}
        return [(key, file) for key, file in files.items() if file.is_file()]

    def note_sent(self, key: str) -> None:
        """Note that a server has a segmentation."""
        self.entries[key] = {**self.entries[key], "sent": True}
        write_atomic(self.folder / key / ENTRY, json.dumps(self.entries[key], indent=1) + "\n")

    def empty_work(self) -> None:
        """Remove what is left of the scan before."""
        shutil.rmtree(self.work, ignore_errors=True)
        try:
            self.work.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.work}: can't be made ({error.strerror}); wanted a folder to write to") from error

    def _read(self, key: str) -> dict[str, Any] | None:
        """Return an entry; None where there is none that can be read, so that the series is segmented anew."""
        try:
            entry = read_json(self.folder / key / ENTRY, "an entry")
            return {**entry, "mark": int(entry["mark"])}
        except (InputError, KeyError, TypeError, ValueError):
            return None

    def _read_tries(self) -> dict[str, dict[str, int]]:
        if not self._tries_file.is_file():
            return {}
        found = read_json(self._tries_file, "what the service has written there")
        done = {key: self.entries[key]["mark"] for key in self.entries}
        return {key: one for key, one in found.items() if one["mark"] > done.get(key, -1)}

    def _write_tries(self) -> None:
        write_atomic(self._tries_file, json.dumps(self.tries) + "\n")
