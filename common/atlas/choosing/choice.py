"""The atlas of a run: the one that was named, how it compares, or the one that reaches the other scans best."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ignite.distributed as idist

from ...errors import printable
from ...files.atomic_write import write_atomic
from ...launch.words import items, optional
from ...processes import followed
from ...pseudo_labels.work import settings_digest
from .proposal import compare, propose
from .reach import ScanReach

ALL = "all"
CHOICE = "atlas.json"  # in the folder of a run's labels
UNLIKE = 0.25  # share of other scans that an atlas should be better than
FEWEST = 4  # scans of which one can be called unlike the others


def split_ids(atlas: Any, candidates: Sequence[str]) -> list[str]:
    """Return the ids that are meant by "A", "A,B", a list, a number or "all" (of the candidates); none by None."""
    if optional(atlas) is None:
        return []
    if isinstance(atlas, str) and atlas in candidates:  # however it is written
        return [atlas]
    return list(candidates) if atlas == ALL and candidates else [str(case) for case in items(atlas)]


def choose_labelled(scans: ScanReach, candidates: Sequence[str], folder: Path) -> list[str]:
    """Return the candidate that reaches the other scans best, as a list of one id.

    Args:
        scans: knows the images.
        candidates: ids to choose from.
        folder: where the choice is kept, if it is there; one of the same candidates among the same scans is not made
            again.
    """
    shape = tuple(scans.images[0]["image"].shape)
    key = settings_digest(sorted(candidates), sorted(scans.index), shape, scans.channel, scans.steps)
    file = folder / CHOICE
    kept = read_choice(file)
    if kept.get("of") == key:
        return [str(case) for case in kept["atlas"]]
    found = propose(scans, candidates, follow=partial(followed, description="choosing the atlas"))
    if idist.get_rank() == 0:
        if folder.is_dir():  # an evaluation elsewhere leaves nothing but its scores
            write_atomic(file, json.dumps({"of": key, "atlas": found.chosen, "reach": found.reach}, indent=1) + "\n")
        print(
            f"atlas: {printable(found.chosen[0])}: of {len(candidates)} labelled training cases it reaches the other "
            "scans best, by images alone",
            flush=True,
        )
    return found.chosen


def read_choice(file: Path) -> dict[str, Any]:
    """Return the kept choice; nothing where there is none that can be read."""
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def forget_choice(folder: Path) -> None:
    """Remove the kept choice of an earlier run."""
    (folder / CHOICE).unlink(missing_ok=True)


def tell_reach(images: Sequence[Mapping[str, Any]], atlases: Sequence[str], channel: int | None = None) -> None:
    """Print how a single named atlas compares with other scans in reaching the rest, and which would be better."""
    if len(atlases) != 1 or len(images) < FEWEST or idist.get_rank() > 0:
        return
    share, reach = compare(
        ScanReach(images, channel), atlases[0], partial(followed, description="looking at the atlas")
    )
    others = [case for case in reach if case != atlases[0]]
    line = (
        f"atlas {printable(atlases[0])}: its image reaches other scans better than {share:.0%} of {len(others)} that "
        "were compared do"
    )
    if share < UNLIKE:
        better = ", ".join(printable(case) for case in others[:3])
        line = (
            f"warning: {line}: this atlas is unlike the other scans; expect worse labels than from {better} "
            "(python -m tools.propose_volumes looks at all)"
        )
    print(line, flush=True)
