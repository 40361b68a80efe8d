"""What is segmented as one, known by a name that stays, and which of several processes takes it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from common.errors import InputError

LETTERS = 16  # hex digits of a key
KEY = re.compile(f"[0-9a-f]{{{LETTERS}}}")


@dataclass(frozen=True)
class Series:
    """One DICOM series, or one file of a volume, as a look at its source finds it.

    Args:
        name: SeriesInstanceUID, or the file's path below the folder that is watched.
        mark: what grows where there is more to segment than before: how many instances, or when the file was changed.
        age: seconds since the newest of its files changed; None where that isn't known.
        number: SeriesNumber.
        files: of the series.
        study: StudyInstanceUID, where a server is asked by it.
    """

    name: str
    mark: int
    age: float | None = None
    number: int | None = None
    files: tuple[Path, ...] = ()
    study: str = ""

    @property
    def key(self) -> str:
        """16 hex digits that stand for the name in folders and in the log."""
        return hashlib.sha256(self.name.encode("utf-8", "surrogatepass")).hexdigest()[:LETTERS]


@dataclass(frozen=True)
class Part:
    """One of several processes that share the series among them, from 1 to `count`."""

    number: int = 1
    count: int = 1

    def holds(self, key: str) -> bool:
        """Return whether a series is this part's: on every machine the same one's, whatever else there is."""
        return int(key, 16) % self.count == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def read_part(word: str | None, rank: str | None = None, world_size: str | None = None) -> Part:
    """Return the part that `--part I/N` names, or that torchrun has started this process as; else the whole.

    Args:
        rank, world_size: RANK and WORLD_SIZE of the environment.

    Raises:
        InputError: no part, or both ways at once.
    """
    ranks = int(world_size) if world_size is not None else 1
    if word is None:
        return Part(int(rank or 0) + 1, ranks)
    if ranks > 1:
        raise InputError(f"--part is {word}, and torchrun has started {ranks} processes; wanted one of both")
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", word)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise InputError(f"--part is {word!r}; wanted I/N, such as 2/4 for the second of four")
    return Part(int(found[1]), int(found[2]))
