"""What a run was made of and what it cost: versions, device, seed, data hash, and time and memory of each stage."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events

from ..costs.stage_meter import StageMeter
from ..data.datalist import GROUPS, Datalist
from ..errors import InputError
from ..files.atomic_write import write_atomic
from .folders import without_paths
from .identity import differences, run_identity
from .machine import describe_machine
from .privacy import hash_cases, hash_dataset

PACKAGES = ("torch", "monai", "numpy", "pytorch-ignite", "nibabel", "SimpleITK", "itk-io", "scipy", "segment-anything")


class RunManifest:
    """Collects what is needed to judge and repeat a run, and writes it to `output_dir`/run.json.

    The file holds no host name, no folder (only the last part of a path: `without_paths`) and no case name unless the
    caller puts it into `results`.

    Args:
        output_dir: folder of run.json; made on the first `write()`.
        config: settings of the run by part, more of which `note` adds; paths are shortened to their last part.
        seed: random seed of the run.
        device: torch device of the run, e.g. "cpu".
        dataset_dir: data set in MSD layout; its dataset.json and the names and sizes of its files are hashed.
        datalist: name of its JSON file; or the cases that a client has given, which are then what is hashed.
        resume: go on with the run.json that is there: stage costs add up and the resume is noted with what differs.

    Attributes:
        results: free JSON content of the caller (scores, settings that were chosen, warnings), kept over a resume.
        id: of the run, see `run_identity`; None until `identify`.

    Raises:
        InputError: `resume` meets a run.json that is none; `dataset_dir` has no readable dataset.json.
    """

    FILE = "run.json"

    def __init__(
        self,
        output_dir: str | os.PathLike,
        config: Mapping[str, Any] | None = None,
        seed: int | None = None,
        device: Any = "cpu",
        dataset_dir: str | os.PathLike | None = None,
        resume: bool = False,
        datalist: str | Datalist = "dataset.json",
    ) -> None:
        self.path = Path(output_dir).expanduser() / self.FILE
        self.started = _now()
        self.id: str | None = None
        self.facts = {
            "seed": seed,
            "versions": package_versions(),
            "machine": describe_machine(device),
            "dataset": _describe_dataset(dataset_dir, datalist),
            "config": json.loads(json.dumps(without_paths(dict(config or {})), default=_plain)),
        }
        self.results: dict[str, Any] = {}
        self.resumes: list[dict[str, Any]] = []
        self._before: dict[str, Any] | None = None
        self._finished: dict[str, dict[str, float]] = {}
        self._open: dict[str, StageMeter] = {}
        if resume and self.path.is_file():
            self._go_on()

    @property
    def times_resumed(self) -> int:
        return len(self.resumes)

    @property
    def stages(self) -> dict[str, dict[str, float]]:
        """Cost by stage so far, running ones included: wall_seconds, cpu_seconds, peak_memory_mib, times_run."""
        costs = dict(self._finished)
        for name, meter in self._open.items():
            costs[name] = _add(costs[name], meter.read())
        return costs

    def note(self, part: str, settings: Mapping[str, Any]) -> None:
        """Keep what a part of the run was built with (see `settings_of`); what was noted of it before goes."""
        self.facts["config"][part] = json.loads(json.dumps(without_paths(dict(settings)), default=_plain))
        self._note_changes()

    def identify(self) -> list[str]:
        """Give the run its id, now that all parts are noted; return what differs from the run that is gone on with.

        Nothing differs from a run.json without an id, which an earlier version wrote.
        """
        self.id = run_identity(self.facts)
        if self._before is None or self._before.get("id") in (None, self.id):
            return []
        return differences(self._before, self.facts) or ["what it was made of"]

    def start_anew(self) -> None:
        """Forget the run that was to be gone on with: its costs, results and resumes."""
        self.started, self.results, self.resumes = _now(), {}, []
        self._before, self._finished = None, {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what happens inside the `with` block as the stage `name`; a second block of that name adds up."""
        self.start_stage(name)
        try:
            yield
        finally:
            self.end_stage(name)

    def measure(self, name: str, work: Callable[[], Any]) -> Any:
        """Return work(), counted as the stage `name`; run.json is written afterwards."""
        with self.stage(name):
            result = work()
        self.write()
        return result

    def start_stage(self, name: str) -> None:
        """Start the clock of a stage; one that runs already goes on."""
        if name not in self._open:
            for meter in self._open.values():
                meter.read()  # a new meter starts the process's peak anew, so the outer stage notes its own first
            self._finished.setdefault(name, {})  # stages stand in the order in which they began
            self._open[name] = StageMeter()

    def end_stage(self, name: str) -> None:
        """Stop the clock of a stage; a stage that doesn't run is ignored."""
        if name in self._open:
            for meter in self._open.values():
                meter.read()
            self._finished[name] = _add(self._finished[name], self._open.pop(name).read())

    def as_dict(self) -> dict[str, Any]:
        """Return the content of run.json, plain JSON types only."""
        return {
            "id": self.id,
            "started": self.started,
            "written": _now(),
            "times_resumed": self.times_resumed,
            "resumes": self.resumes,
            **self.facts,
            "stages": {
                name: {key: round(value, 3) for key, value in cost.items()} for name, cost in self.stages.items()
            },
            "results": json.loads(json.dumps(without_paths(self.results), default=_plain)),
        }

    def write(self) -> Path:
        """Write run.json atomically (rank 0 alone does) and return its path."""
        if idist.get_rank() == 0:
            write_atomic(self.path, json.dumps(self.as_dict(), indent=2) + "\n")
        return self.path

    def _go_on(self) -> None:
        try:
            before = json.loads(self.path.read_text(encoding="utf-8"))
            self.started = before["started"]
            self.results = dict(before["results"])
            self._finished = {name: dict(cost) for name, cost in before["stages"].items()}
            self.resumes = [*before["resumes"], {"at": _now(), "changed": []}]
            self._before = before
            self._note_changes()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            wanted = "the run.json of an earlier run is wanted: delete it or start without resume"
            raise InputError(f"{self.path}: not a run manifest ({error!r}); {wanted}") from error

    def _note_changes(self) -> None:
        """Say what differs from the run that is gone on with, of the parts that are known by now."""
        if self._before is not None:
            config = self.facts["config"]
            before = {part: found for part, found in self._before["config"].items() if part in config}
            self.resumes[-1]["changed"] = _changes({**self._before, "config": before}, self.facts)


class StageCost:
    """Handler that counts a whole engine run as one stage of a run's manifest and writes run.json after each epoch.

    Args:
        run: has `manifest`, which is first asked for when the engine starts.
        stage: name of the stage.
    """

    def __init__(self, run: Any, stage: str) -> None:
        self.run = run
        self.stage = stage

    @property
    def manifest(self) -> RunManifest:
        return self.run.manifest

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)
        engine.add_event_handler(Events.COMPLETED | Events.TERMINATE, self._end)

    def _start(self) -> None:
        self.manifest.start_stage(self.stage)

    def _write(self) -> None:
        self.manifest.write()

    def _end(self) -> None:
        self.manifest.end_stage(self.stage)
        self.manifest.write()


def settings_of(part: Any) -> dict[str, Any]:
    """Return what a part of a run was built with: those of its constructor's arguments that it keeps and JSON can hold.

    A part that says so itself, by a mapping `settings`, or is a mapping is taken at its word. `resume` is left out: it
    changes no result, and run.json counts how often it was on.
    """
    own = part if isinstance(part, Mapping) else getattr(part, "settings", None)
    if not isinstance(own, Mapping):
        kept = vars(part)
        own = {name: kept[name] for name in inspect.signature(type(part)).parameters if name in kept}
    return {str(name): value for name, value in own.items() if name != "resume" and _is_setting(value)}


def _is_setting(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_setting(entry) for entry in value.values())
    if isinstance(value, list | tuple):
        return all(_is_setting(entry) for entry in value)
    return value is None or isinstance(value, str | int | float | Path)


def package_versions(names: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Return the version of each installed package of `names`; one that isn't installed is left out."""
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _describe_dataset(dataset_dir: str | os.PathLike | None, datalist: str | Datalist) -> dict[str, Any] | None:
    if isinstance(datalist, Datalist):
        groups = (datalist.training, datalist.validation, datalist.test, datalist.unlabeled)
        return hash_cases(dict(zip(GROUPS, groups, strict=True)))
    return None if dataset_dir is None else hash_dataset(dataset_dir, datalist)


def _add(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    sums = {key: before.get(key, 0) + value for key, value in now.items()}
    peaks = {key: max(before.get(key, 0), value) for key, value in now.items() if key.startswith("peak")}
    return {**before, **sums, **peaks}


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Dotted keys whose values differ between two manifests, down to the settings of each part."""
    changed = []
    for section, facts in now.items():
        old = before.get(section)
        if isinstance(facts, dict) and isinstance(old, dict):
            for key in sorted(facts.keys() | old.keys()):
                new, previous = facts.get(key), old.get(key)
                if section == "config" and isinstance(new, dict) and isinstance(previous, dict):
                    changed += [f"{section}.{line}" for line in _changes({key: previous}, {key: new})]
                elif new != previous:
                    changed.append(f"{section}.{key}")
        elif facts != old:
            changed.append(section)
    return changed


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _plain(value: Any) -> Any:
    """JSON form of what JSON doesn't know: arrays and tensors as lists, anything else by its type alone."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return f"<{type(value).__name__}>"
