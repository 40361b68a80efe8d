"""Work that the processes of a run share."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, Protocol, TypeVar

import ignite.distributed as idist
import torch
from torch import distributed

from .threads import pieces_at_once, side_by_side

T = TypeVar("T")


class Watch(Protocol):
    """Is told of work that is done piece by piece, see `watch`."""

    def begins(self, pieces: Sequence[Any], at_once: int, times: float) -> None:
        """Pieces are begun, so many at once; each stands for so many others that are alike."""

    def done(self) -> None:
        """One piece more is done."""

    def ends(self) -> None:
        """All of them are."""


_watches: list[Watch] = []  # at most one

# torch's own 10 to 30 minutes are over while one process registers its share or scores, and the others wait
PATIENCE = timedelta(days=1)
LOG_INTERVAL = 30.0  # seconds between two lines of a log file


def join_processes(backend: str, device: torch.device | str) -> None:
    """Make this process one of those that torchrun has started.

    Args:
        backend: nccl or gloo.
        device: of this process; a GPU becomes the current one.
    """
    distributed.init_process_group(backend=backend, timeout=PATIENCE)
    if torch.device(device).type == "cuda":
        torch.cuda.set_device(device)


def part_processes() -> None:
    """Wait until all processes are done, then leave them: torchrun stops all as soon as one of them ends badly."""
    idist.barrier()
    distributed.destroy_process_group()


def own_share(work: Iterable[T]) -> list[T]:
    """Return this process's part of the work: all of it where the process is alone."""
    return list(work)[idist.get_rank() :: idist.get_world_size()]


def watch(by: Watch | None) -> None:
    """Let somebody know of all work that is done piece by piece from now on; None: nobody."""
    _watches[:] = [] if by is None else [by]


def watched(pieces: Sequence[T], at_once: int = 1, times: float = 1.0) -> Iterator[None]:
    """Be asked for one thing more after each piece, so that whoever watches knows how long it took.

    Args:
        at_once: pieces that are done side by side.
        times: pieces of the same kind that each stands for, in a dry run; see `Run.measure`.
    """
    for one in _watches:
        one.begins(pieces, at_once, times)
    for _ in pieces:
        yield
        for one in _watches:
            one.done()
    for one in _watches:
        one.ends()


def together(own: Iterable[T], description: str | None = None, times: float = 1.0) -> Iterator[T]:
    """Yield this process's part of the work; once it is done, wait until the others have done theirs.

    Every process has to come here, however little it has to do.

    Args:
        description: of a progress line, which the first process shows; None for no line.
        times: see `watched`.
    """
    pieces = list(own)
    shown = pieces if description is None else followed(pieces, description)
    for piece, _ in zip(shown, watched(pieces, 1, times), strict=True):
        yield piece
    idist.barrier()


def all_done(
    own: Sequence[T],
    do: Callable[[Any], Any],
    description: str | None = None,
    read: Callable[[T], Any] | None = None,
    device: torch.device | str = "cpu",
    times: float = 1.0,
) -> None:
    """Do this process's part of the work, several pieces at once on a CPU (`side_by_side`); see `together`.

    Args:
        read: makes of a piece what is given to `do`, one after the other, as they are wanted; None: nothing is made.
        times: see `watched`.
    """
    pieces = iter(own) if description is None else followed(own, description)
    done = side_by_side(do, pieces if read is None else map(read, pieces), device)
    for _ in zip(watched(own, pieces_at_once(device), times), done, strict=True):
        pass
    idist.barrier()


def followed(work: Sequence[T], description: str) -> Iterator[T]:
    """Yield what is to be done under its progress, with the time left: a live line on a terminal, in a log file a line
    every half a minute. Only the first process shows it."""
    if idist.get_rank() > 0:
        yield from work
        return
    if sys.stdout.isatty():
        from rich.progress import track  # not where a bundle only predicts, as in MONAI Deploy

        yield from track(work, description=description)
        return
    start = said = time.monotonic()
    for done, one in enumerate(work):
        now = time.monotonic()
        if done and now - said >= LOG_INTERVAL:
            left = timedelta(seconds=round((now - start) / done * (len(work) - done)))
            print(f"{description}  {done} of {len(work)}  left {left}", flush=True)
            said = now
        yield one
    if work:
        spent = timedelta(seconds=round(time.monotonic() - start))
        print(f"{description}  {len(work)} of {len(work)}  in {spent}", flush=True)
