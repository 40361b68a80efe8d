"""Work that the processes of a run share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

import ignite.distributed as idist
from rich.progress import track

T = TypeVar("T")


def own_share(work: Iterable[T]) -> list[T]:
    """Return this process's part of the work: all of it where the process is alone."""
    return list(work)[idist.get_rank() :: idist.get_world_size()]


def together(own: Iterable[T], description: str | None = None) -> Iterator[T]:
    """Yield this process's part of the work; once it is done, wait until the others have done theirs.

    Every process has to come here, however little it has to do.

    Args:
        description: of a progress line, which the first process shows; None for no line.
    """
    yield from own if description is None else track(own, description=description, disable=idist.get_rank() > 0)
    idist.barrier()
