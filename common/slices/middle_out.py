"""Middle out: from the slice where a structure is surest to both of its ends, neighbour by neighbour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor


def walk_outwards(seed: int | None, gate: Sequence[bool]) -> Iterator[list[tuple[int, int]]]:
    """Yield the steps of a walk from a slice to both sides, which go in step: pairs of a slice and the next one.

    Args:
        seed: where the walk begins; None: there is none.
        gate: of each slice, whether it is entered; a closed one is not crossed either.
    """
    fronts = [] if seed is None else [(seed, -1), (seed, 1)]  # the slice that was reached, direction
    while True:
        fronts = [(z, step) for z, step in fronts if 0 <= z + step < len(gate) and gate[z + step]]
        if not fronts:
            return
        yield [(z, z + step) for z, step in fronts]
        fronts = [(z + step, step) for z, step in fronts]


def middle_slice(areas: Tensor) -> int | None:
    """Return the slice in the middle of a structure, with half of it on either side; None where there is nothing.

    Args:
        areas: of its mask on each slice [n], any unit. An empty slice is never the middle one.
    """
    total = areas.double().cumsum(0)
    return None if not len(areas) or total[-1] <= 0 else int((total >= total[-1] / 2).nonzero()[0, 0])
