"""How many scans the labels of the atlases reached, said before anything is learnt from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

import ignite.distributed as idist

from ..errors import InputError, printable

REACHED = 0.5  # agreement (Dice) of independent opinions on a case, from which on its label is worth learning from
FEWEST = 0.1  # share of the cases that have to be reached


def describe_reached(quality: Mapping[str, float], atlases: Sequence[str]) -> tuple[str, bool]:
    """Return a line on how many cases were reached, and whether these are enough: a tenth of them, one at least.

    Args:
        quality: case -> how far independent opinions on it agree, Dice; of one case at least.
        atlases: their ids.
    """
    count = sum(value >= REACHED for value in quality.values())
    names = f"atlas {atlases[0]}" if len(atlases) == 1 else f"{len(atlases)} atlases"
    line = (
        f"{printable(names)}: the label reaches {count} of {len(quality)} scans: independent registrations agree there "
        f"by a Dice of {REACHED} or more (median {median(quality.values()):.2f})"
    )
    return line, count >= max(1, FEWEST * len(quality))


def tell_reached(quality: Mapping[str, float], atlases: Sequence[str], force: bool = False) -> None:
    """Print how many cases were reached.

    Args:
        quality: case -> how far independent opinions on it agree, Dice.
        atlases: their ids.
        force: warn where nearly none was, instead of ending the run.

    Raises:
        InputError: less than a tenth of the cases was reached, or none.
    """
    if not quality:
        return
    line, enough = describe_reached(quality, atlases)
    if not enough:
        advice = (
            "label a scan that is like the others (python -m tools.propose_volumes says which), several (--atlas A,B), "
            "or train semisam_plus on those that are labelled"
        )
        if not force:
            raise InputError(f"{line}; wanted a tenth of them at least: {advice}; --force true goes on all the same")
        line = f"warning: {line}: {advice}"
    if idist.get_rank() == 0:
        print(line, flush=True)
