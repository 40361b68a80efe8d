"""How much of its work a stage does: all of it in a real run, a few pieces in a dry run, which stand for the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple


class Pieces(NamedTuple):
    """How much of its work a stage does here: `here` pieces of `in_all`.

    kept: of how many of these files stay; None: of all.
    again: the stage comes again, as rounds do, and `in_all` are those of all rounds.
    unit: what they are.
    """

    here: float
    in_all: float
    kept: float | None = None
    again: bool = False
    unit: str = "cases"


_rehearsals: list[Any] = []  # at most one


def rehearsal() -> Any:
    """Return what watches the dry run of this process; None in a real run."""
    return _rehearsals[0] if _rehearsals else None


def let_rehearse(by: Any) -> None:
    """From now on this process is a dry run; None: no more."""
    _rehearsals[:] = [] if by is None else [by]


@contextmanager
def rehearsed(name: str, share: Pieces | None = None) -> Iterator[None]:
    """Count what happens inside the `with` block as a stage of a dry run; nothing in a real one."""
    one = rehearsal()
    if one is None:
        yield
        return
    with one.stage(name, share):
        yield


def count(cases: Sequence[Any], most: float | None = None) -> float:
    """Return how many cases of a real run some stand for, `most` at most; in a real run their number."""
    one = rehearsal()
    number = float(len(cases)) if one is None else one.count(cases)
    return number if most is None else min(number, most)


def pieces(cases: Sequence[Any], most: float | None = None) -> Pieces:
    """Return how many of some cases there are here, `most` at most, and in a real run."""
    return Pieces(min(len(cases), len(cases) if most is None else most), count(cases, most))


def asked_of_others(cases: Sequence[Any], helpers: float) -> float:
    """Return how many times as much is asked in a real run as here, of work with each case and all helpers but itself.

    Args:
        helpers: how many of the cases help.
    """
    here, in_all, *_ = pieces(cases, helpers)
    return in_all * (1 - 1 / count(cases)) / max(1.0, here * (1 - 1 / len(cases)))


def case_of(piece: Any) -> str:
    """Return the id of the case that a piece of work is about: an item, its id, or what begins with one of these."""
    if isinstance(piece, str):
        return piece
    if isinstance(piece, Mapping):
        return str(piece.get("case", ""))
    if isinstance(piece, tuple) and piece:
        return case_of(piece[0])
    return str(getattr(piece, "case", ""))
