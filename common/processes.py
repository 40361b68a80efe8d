"""Work that the processes of a run share."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import ignite.distributed as idist
import torch
from torch import distributed

from .threads import side_by_side

T = TypeVar("T")

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


def together(own: Iterable[T], description: str | None = None) -> Iterator[T]:
    """Yield this process's part of the work; once it is done, wait until the others have done theirs.

    Every process has to come here, however little it has to do.

    Args:
        description: of a progress line, which the first process shows; None for no line.
    """
    yield from own if description is None else followed(list(own), description)
    idist.barrier()


def all_done(
    own: Sequence[T],
    do: Callable[[Any], Any],
    description: str | None = None,
    read: Callable[[T], Any] | None = None,
    device: torch.device | str = "cpu",
) -> None:
    """Do this process's part of the work, several pieces at once on a CPU (`side_by_side`); see `together`.

    Args:
        read: makes of a piece what is given to `do`, one after the other, as they are wanted; None: nothing is made.
    """
    pieces = iter(own) if description is None else followed(own, description)
    for _ in side_by_side(do, pieces if read is None else map(read, pieces), device):
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
