"""How many scans the labels of the atlases reached, said before anything is learnt from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ignite.distributed as idist

from ..errors import InputError, printable

REACHED = 0.5  # agreement (Dice) of independent opinions on a label, from which on it is worth learning from
FEWEST = 0.1  # share of the cases that the label that reaches most has to reach


def reaches(by_label: Mapping[str, float]) -> bool:
    """Return whether any label of a case is agreed on: class as text -> Dice of independent opinions."""
    return any(value >= REACHED for value in by_label.values())


def describe_reached(
    judged: Mapping[str, Mapping[str, float]], names: Mapping[int, str], atlases: Sequence[str]
) -> tuple[str, bool]:
    """Return a line on how many cases each label reached, and whether the one that reaches most reached enough of them:
    a tenth, one at least.

    Args:
        judged, names, atlases: see `tell_reached`.
    """
    counts = {
        name: sum(by_label.get(str(number), 0.0) >= REACHED for by_label in judged.values())
        for number, name in names.items()
        if any(str(number) in by_label for by_label in judged.values())
    }
    who = f"atlas {atlases[0]}" if len(atlases) == 1 else f"{len(atlases)} atlases"
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    line = printable(
        f"{who}: of {len(judged)} scans labels reach (independent registrations agree by a Dice of {REACHED} or more): "
        + ", ".join(f"{name} {count}" for name, count in ranked)
    )
    return line, max(counts.values(), default=0) >= max(1, FEWEST * len(judged))


def tell_reached(
    judged: Mapping[str, Mapping[str, float]], names: Mapping[int, str], atlases: Sequence[str], force: bool = False
) -> None:
    """Print how many cases each label reached.

    Args:
        judged: case -> class as text -> how far independent opinions agree on it, Dice.
        names: class -> name of the label.
        atlases: their ids.
        force: warn where nearly none was reached, instead of ending the run.

    Raises:
        InputError: the label that reaches most cases reaches less than a tenth of them, or none.
    """
    if not judged:
        return
    line, enough = describe_reached(judged, names, atlases)
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
