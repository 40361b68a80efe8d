"""What finished runs say of themselves, and whether they can stand on one learning curve."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import InputError
from common.files.json_file import read_json
from common.run.folders import without_paths

OVERALL = "overall"
# settings that may differ: who is labelled, the draw, and where and how fast it is computed
FREE = {"amp", "atlas", "device", "folder", "labeled", "num_labeled", "num_workers", "seed"}
FREE_PARTS = {"run"}
SHOWN = 3


@dataclass(frozen=True)
class LabelledRun:
    """A finished training by some labelled volumes.

    Attributes:
        name: last part of its folder.
        labels: how many volumes were labelled.
        scans: how many there were to learn from, labelled or not; None where it doesn't say.
        seed: of its draws.
        id: of the run, see `common.run.identity`; None in a file of an early version.
        bundle: name in its metadata.json; None in a file of an early version.
        dataset: hash of what was there to learn from.
        settings: dotted key -> value, without `FREE`.
        dice: structure -> case -> Dice, NaN where there is none; "overall" has the cases' means over the structures.
    """

    name: str
    labels: int
    scans: int | None
    seed: int | None
    id: str | None
    bundle: str | None
    dataset: str
    settings: dict[str, Any]
    dice: dict[str, dict[str, float]]

    @property
    def cases(self) -> list[str]:
        return sorted(self.dice[OVERALL])

    def scores(self, structure: str) -> np.ndarray:
        """Return the Dice of a structure, [cases] in the order of `cases`, NaN where there is none."""
        return np.array([self.dice[structure].get(case, math.nan) for case in self.cases])


def read_run(folder: Path) -> LabelledRun:
    """Read run.json and metrics.json of an output folder.

    Raises:
        InputError: one of them is missing or is none, no case was scored, or nothing says how many volumes had labels.
    """
    run = read_json(folder / "run.json", "the run.json of a finished training")
    metrics = read_json(folder / "metrics.json", "the metrics.json of its evaluation")
    try:
        results, facts = run["results"], run["dataset"] or {}
        dataset = str(facts.get("learnt") or facts["sha256"])
        settings = {key: value for part, found in run["config"].items() if part not in FREE_PARTS
                    for key, value in _flat(part, found)}  # fmt: skip
        dice: dict[str, dict[str, float]] = {str(name): {} for name in metrics["labels"].values()}
        for row in metrics["rows"]:
            score = math.nan if row["dice"] is None else float(row["dice"])
            dice.setdefault(str(row["name"]), {})[str(row["case"])] = score
        labels, others = results.get("labeled"), results.get("unlabeled")
        seed, own, bundle = run["seed"], run.get("id"), results.get("bundle")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        wanted = "wanted those of a finished training"
        raise InputError(f"{folder}: run.json or metrics.json can't be read ({error!r}); {wanted}") from error
    if isinstance(labels, bool) or not isinstance(labels, int) or labels < 1:
        raise InputError(
            f"{folder}/run.json: results.labeled is {labels!r}; wanted the number of labelled volumes, as finished "
            "trainings of semisam_plus, sam_adapters and rrl_medsam have it"
        )
    cases = dict.fromkeys(case for scores in dice.values() for case in scores)
    every = {case: [scores[case] for scores in dice.values() if case in scores] for case in cases}
    dice[OVERALL] = {case: _mean(scores) for case, scores in every.items()}
    if all(math.isnan(score) for score in dice[OVERALL].values()):
        raise InputError(f"{folder}/metrics.json: no case has a Dice; wanted a run whose test or validation has labels")
    scans = labels + others if isinstance(others, int) else None
    return LabelledRun(folder.resolve().name, labels, scans, seed, own, bundle, dataset, settings, dice)


def read_runs(folders: Sequence[Path], grown: bool = False) -> list[LabelledRun]:
    """Read runs that differ in their labels and draws, the fewest labels first.

    Args:
        grown: the data set got labels between the runs, so that it need not be the same; the scored cases have to be.

    Raises:
        InputError: a folder is none of a finished run; a run is given twice; bundles, data sets, structures or scored
            cases differ; or all runs have the same number of labels. One line each.
    """
    runs, problems = [], []
    for folder in folders:
        try:
            runs.append(read_run(folder))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    first = runs[0]
    for number, (folder, run) in enumerate(zip(folders, runs, strict=True)):
        before = list(zip(folders, runs, strict=True))[:number]
        twice = [str(old) for old, known in before if old.resolve() == folder.resolve() or _same(known, run)]
        if twice:
            problems.append(f"{folder}: is the same run as {twice[0]}; wanted each run once")
        problems += [f"{folder}: {line} as in {folders[0]}" for line in _unlike(first, run, grown)]
    counts = sorted({run.labels for run in runs})
    if len(counts) < 2 and not problems:
        found = f"{len(runs)} run{'s' if len(runs) > 1 else ''} with {counts[0]} labelled volumes"
        problems.append(f"found {found}; wanted two different numbers of labels at least, such as 1, 2 and 4")
    if problems:
        raise InputError(problems)
    return sorted(runs, key=lambda run: (run.labels, run.seed or 0))


def other_settings(runs: Sequence[LabelledRun]) -> list[str]:
    """Return in which settings the runs differ beside their labels and draws: "train.max_epochs is 10, 40"."""
    lines = []
    for key in sorted({key for run in runs for key in run.settings}):
        found = list(dict.fromkeys(json.dumps(run.settings.get(key), sort_keys=True) for run in runs))
        if len(found) > 1:
            lines.append(f"{key} is {', '.join(found[:SHOWN])}")
    return lines


def _same(one: LabelledRun, other: LabelledRun) -> bool:
    return one.id is not None and one.id == other.id and one.dice == other.dice


def _unlike(first: LabelledRun, run: LabelledRun, grown: bool) -> list[str]:
    lines = []
    if None not in (first.bundle, run.bundle) and first.bundle != run.bundle:
        lines.append(f"is of the bundle {run.bundle!r}; wanted {first.bundle!r},")
    if first.dataset != run.dataset and not grown:
        lines.append(
            f"learnt from data of hash {run.dataset[:12]}; wanted {first.dataset[:12]} (--grown: labels were added),"
        )
    if set(first.dice) != set(run.dice):
        names = [", ".join(sorted(set(one.dice) - {OVERALL})) for one in (run, first)]
        lines.append(f"has the labels {names[0]}; wanted {names[1]},")
    if first.cases != run.cases:
        differ = sorted(set(first.cases) ^ set(run.cases))
        lines.append(f"scored {len(run.cases)} cases, not all the same ({without_paths(differ[0])}); wanted those")
    return lines


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, entry in value.items():
            if key not in FREE:
                yield from _flat(f"{name}.{key}", entry)
    else:
        yield name, value


def _mean(numbers: Sequence[float]) -> float:
    known = [number for number in numbers if not math.isnan(number)]
    return sum(known) / len(known) if known else math.nan
