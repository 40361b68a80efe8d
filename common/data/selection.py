"""Who of a datalist counts as labelled; all others lose their labels before any transform can open them."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import InputError
from .datalist import Case, Datalist, shown

SHOWN_CANDIDATES = 10
LABELED_KEYS = ("case", "image", "label", "known_labels")  # all that may be known of a case whose mask may be opened


def labeled_cases(datalist: Datalist) -> list[Case]:
    """Return the training cases that have a label, in their order.

    Raises:
        InputError: no training case has a label.
    """
    labeled = [case for case in datalist.training if "label" in case]
    if not labeled:
        raise InputError(
            f"{datalist.directory}: none of {len(datalist.training)} training cases has a label; wanted at least one"
        )
    return labeled


def scored_cases(datalist: Datalist) -> list[Case]:
    """Return the cases whose truth may be looked at, with `LABELED_KEYS` alone: labelled test cases, else labelled
    validation cases."""
    test, validation = ([case for case in group if "label" in case] for group in (datalist.test, datalist.validation))
    return with_labels(test or validation)


def require_scored(datalist: Datalist) -> None:
    """Look whether there is a case to score by.

    Raises:
        InputError: none of the test and validation cases has a label.
    """
    if not scored_cases(datalist):
        groups = (("test", datalist.test), ("validation", datalist.validation))
        found = " and ".join(f"{len(cases)} {name} cases" for name, cases in groups)
        raise InputError(
            f"{datalist.directory}: nothing to score, of {found} none has a label; wanted some in test or "
            'validation with {"image": ..., "label": ...}'
        )


def strip_labels(cases: Iterable[Mapping[str, Any]]) -> list[Case]:
    """Return the cases with their id and image alone, so that no transform can reach what else is known of them."""
    return [{"case": case["case"], "image": case["image"]} for case in cases]


def with_labels(cases: Iterable[Mapping[str, Any]]) -> list[Case]:
    """Return the cases with those of `LABELED_KEYS` that they have, and nothing else."""
    return [{key: case[key] for key in LABELED_KEYS if key in case} for case in cases]


def require_whole(cases: Iterable[Mapping[str, Any]], labels: Mapping[int, str], why: str) -> None:
    """Raise an InputError, one line for each case whose mask doesn't tell about all labels.

    Args:
        labels: value -> name, background included.
        why: what wants whole masks, as "an atlas".
    """
    names = {value: name for value, name in labels.items() if value}
    problems = [
        f"{case['case']}: known_labels has {len(case['known_labels'])} of {len(names)} labels; wanted all for {why}, "
        "or another case"
        for case in cases
        if "known_labels" in case
    ]
    if problems:
        raise InputError(problems)


def few_labeled(
    datalist: Datalist,
    num_labeled: int | None,
    seed: int = 0,
    labeled: str | Sequence[str] | None = None,
    kind: str = "labeled case",
) -> tuple[list[Case], list[Case]]:
    """Return the few cases that count as labelled, and all other training and unlabeled cases, stripped.

    The draw depends on the ids and the seed alone, not on the order of the datalist, and is nested: for one seed the
    draw of 2 begins with the draw of 1.

    Args:
        num_labeled: how many training cases with a label are drawn; None for all.
        seed: of the draw.
        labeled: ids of the labelled cases, in place of a draw; `num_labeled` and `seed` then count for nothing.
        kind: what a message calls one of these.

    Raises:
        InputError: `num_labeled` is no number from 1 to that of the labelled training cases; an id of `labeled` is not
            a training case, has no label or comes twice, one line each.
    """
    if labeled is not None:
        ids = labeled if isinstance(labeled, (list, tuple)) else [labeled]
        if not ids:
            raise InputError("labeled is an empty list; wanted ids of training cases, or null for a draw")
        return _split(datalist, [str(case) for case in ids], kind)
    ids = sorted(case["case"] for case in labeled_cases(datalist))
    num_labeled = len(ids) if num_labeled is None else num_labeled
    if isinstance(num_labeled, bool) or not isinstance(num_labeled, int) or not 1 <= num_labeled <= len(ids):
        raise InputError(
            f"num_labeled is {num_labeled}; wanted 1 to {len(ids)}, the training cases of {datalist.directory} that "
            "have a label"
        )
    order = np.random.default_rng(seed).permutation(len(ids))
    return _split(datalist, [ids[index] for index in order[:num_labeled]], "labeled case")


def weakly_labeled(datalist: Datalist) -> list[Case]:
    """Return the training cases with `case`, `image` and `slice_labels` alone: no transform can reach their masks.

    Raises:
        InputError: one line for each training case without `slice_labels`, and one that says how to derive them.
    """
    lacking = [case["case"] for case in datalist.training if case.get("slice_labels") is None]
    if lacking:
        shown = lacking[:SHOWN_CANDIDATES]
        problems = [f"{datalist.directory}: training case {case} has no slice_labels" for case in shown]
        more = f"and {len(lacking) - len(shown)} more: " if len(lacking) > len(shown) else ""
        problems.append(
            f"{more}wanted slice_labels for every training case; where there are masks, derive them: "
            f"python -m tools.slice_labels {datalist.directory}"
        )
        raise InputError(problems)
    return [{key: case[key] for key in ("case", "image", "slice_labels")} for case in datalist.training]


def given_label_slices(datalist: Datalist) -> dict[str, list[int]]:
    """Return the `label_slices` of the training cases that have some: case -> indices, sorted.

    They say on which slices, along the axis of the case's `slice_labels` and counted from 0, its label file carries
    masks; whatever else stands in that file means nothing.

    Raises:
        InputError: one line for each that is no list of different whole numbers, or whose case has no label.
    """
    given, problems = {}, []
    for case in datalist.training:
        indices = case.get("label_slices")
        if indices is None:
            continue
        where = f"{datalist.directory}: training case {case['case']}"
        if not isinstance(indices, list) or not indices or any(type(i) is not int or i < 0 for i in indices):
            problems.append(f"{where}: label_slices is {shown(indices)}; wanted indices from 0, such as [3, 17]")
        elif len(set(indices)) < len(indices):
            problems.append(f"{where}: label_slices is {shown(indices)}; wanted every slice once")
        elif "label" not in case:
            problems.append(f"{where} has label_slices but no label; wanted the file with the masks of these slices")
        else:
            given[case["case"]] = sorted(indices)
    if problems:
        raise InputError(problems)
    return given


def _split(datalist: Datalist, ids: Sequence[str], kind: str) -> tuple[list[Case], list[Case]]:
    """Return the labelled training cases of these ids, in their order, and all others, stripped."""
    candidates = {case["case"]: case for case in labeled_cases(datalist)}
    everyone = datalist.training + datalist.unlabeled
    problems = [f"{kind} {case} comes twice; wanted it once" for case, count in Counter(ids).items() if count > 1]
    for case in ids:
        if case not in candidates:
            found = "has no label" if any(other["case"] == case for other in everyone) else "is not a training case"
            close = difflib.get_close_matches(case, candidates, n=3, cutoff=0.7)
            names = close + [name for name in candidates if name not in close]
            more = f" and {len(names) - SHOWN_CANDIDATES} more" if len(names) > SHOWN_CANDIDATES else ""
            problems.append(f"{kind} {case} {found}; wanted one of {', '.join(names[:SHOWN_CANDIDATES])}{more}")
    if problems:
        raise InputError(problems)
    others = [case for case in everyone if case["case"] not in ids]
    return [candidates[case] for case in ids], strip_labels(others)
