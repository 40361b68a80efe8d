"""Stand for one process of several: its rank, their number, and barriers that nobody waits at."""

from __future__ import annotations

from collections.abc import Callable

import ignite.distributed as idist
import pytest


def act_as(patch: pytest.MonkeyPatch, rank: int, world_size: int, barrier: Callable[[], object] = lambda: None) -> None:
    """From now on this process is the given one of `world_size`; `barrier` is called where it would wait."""
    patch.setattr(idist, "get_rank", lambda: rank)
    patch.setattr(idist, "get_world_size", lambda: world_size)
    patch.setattr(idist, "barrier", barrier)
