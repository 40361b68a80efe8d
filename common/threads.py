"""Work on a CPU that is done several pieces at once, each on threads of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")

MOST = 4  # pieces at once: each needs memory of its own


def pieces_at_once(device: torch.device | str = "cpu") -> int:
    """Return how many pieces `side_by_side` does at once on a device: one on a GPU."""
    return min(torch.get_num_threads(), MOST) if torch.device(device).type == "cpu" else 1


def side_by_side(do: Callable[[T], R], work: Iterable[T], device: torch.device | str = "cpu") -> Iterator[R]:
    """Yield what is done with each piece, in their order, as many pieces at once as torch has threads, four at most.

    Registering a pair of scans keeps one core busy whatever threads it has: much of it is for a batch of one what
    torch shares by items of a batch. Results are those of one after the other on as many threads each: nothing may be
    drawn.

    Args:
        do: in a thread of its own, so gradients are on, and no autocast is.
        work: drawn from as pieces are done, in the calling thread: what is read for them stays few.
        device: of the work; a GPU gets one piece after the other.
    """
    threads, workers = torch.get_num_threads(), pieces_at_once(device)
    if workers < 2:
        yield from map(do, work)
        return
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads // workers,)) as pool:
        try:
            for piece in work:
                waiting.append(pool.submit(do, piece))
                if len(waiting) == workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # what has begun ends, what hasn't doesn't begin
            for future in waiting:
                future.cancel()
            torch.set_num_threads(threads)
