"""Work that the processes of a run share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import TypeVar

import ignite.distributed as idist
import torch
from torch import distributed

T = TypeVar("T")

# torch's own 10 to 30 minutes are over while one process registers its share or scores, and the others wait
PATIENCE = timedelta(days=1)


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
    from rich.progress import track  # not where a bundle only predicts, as in MONAI Deploy

    yield from own if description is None else track(own, description=description, disable=idist.get_rank() > 0)
    idist.barrier()
