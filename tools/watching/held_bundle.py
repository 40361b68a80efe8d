"""A bundle's own inference.json, built once and given one scan after the other."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from common.errors import InputError
from common.launch.overrides import read_command
from common.serving.case_by_case import describe_failure
from common.serving.prediction_log import label_volumes

TRACE = "Traceback (most recent call last)"
OWN = ("dataset_dir", "output_dir", "bundle_root", "cases", "dicom_seg")  # which the service itself gives
PLACE = ("monai", "bundle", "__main__.py")  # what a command line of a bundle begins with


@dataclass
class Segmented:
    """What became of one scan.

    Args:
        problems: lines that say why there is no result; none where there is one.
        volumes: label -> ml.
        labels: of the model, foreground.
        why: reasons to look at it; None: nothing judges it.
        notes: what else there is to know of the scan.
        seconds: from reading to writing.
        said: all that was printed meanwhile.
    """

    problems: list[str] = field(default_factory=list)
    volumes: dict[int, float] = field(default_factory=dict)
    labels: list[int] = field(default_factory=list)
    why: list[str] | None = None
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    said: str = ""


class HeldBundle:
    """Hold the network of a bundle, and what stands around it in configs/inference.json.

    Args:
        folder: of the bundle, in the repository or unpacked.
        output_dir: where results are written, as inference.json writes them.
        flags: of the command line, `--key value`, which override keys of inference.json.
        device: where no flag names one; None: that of inference.json.

    Raises:
        InputError: no bundle, no model, a flag that can't be, or a model of several channels.
    """

    def __init__(self, folder: Path, output_dir: Path, flags: Sequence[str] = (), device: str | None = None) -> None:
        from monai.bundle import ConfigWorkflow

        folder = folder.resolve()
        config = folder / "configs" / "inference.json"
        if not config.is_file():
            raise InputError(f"{folder}: found no configs/inference.json; wanted the folder of a bundle")
        given = read_flags(config, flags)
        if device is not None:
            given = {"device": device, **given}
        given |= {"bundle_root": str(folder), "output_dir": str(output_dir), "cases": [], "dicom_seg": True}
        workflow = ConfigWorkflow(str(config), workflow_type="infer", logging_file=False, **given)
        workflow.initialize()  # puts the bundle's code on Python's path, loads the model
        content = workflow.parser.get_parsed_content
        self.output_dir = output_dir
        self._grid, self._dataset, self._evaluator = content("grid"), content("dataset"), content("evaluator")
        self._inputs = importlib.import_module("scripts.common.data.inputs")
        self._dicom = importlib.import_module("scripts.common.serving.dicom_segmentation")
        if self._grid.channels > 1:
            raise InputError(f"{folder}: its model sees {self._grid.channels} channels; wanted a model of one channel")
        metadata: Mapping[str, Any] = workflow.parser.get("_meta_", {})
        self.about = {
            "bundle": f"{folder.name} {metadata.get('version', '')}".strip(),
            "model": _sha256(Path(str(content("ckpt_path"))).expanduser()),
        }

    def segment(self, scan: Path) -> Segmented:
        """Segment a file or a folder of one series into `output_dir`; what goes wrong is in what comes back."""
        start, said, found = time.perf_counter(), io.StringIO(), Segmented()
        found.labels = [int(value) for value in self._grid.label_values[1:]]
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), logged(said):
            try:
                items = self._run(scan)
            except Exception as error:
                found.problems = describe_failure(error, str(scan))
            else:
                found.problems = [] if items else [f"{scan}: nothing was written"]
                for item in items:
                    found.volumes = label_volumes(item["pred"])
                    if "review" in item:
                        found.why = list(dict.fromkeys(why for row in item["review"] for why in row["why"]))
        found.said = said.getvalue()
        found.problems = [line.removeprefix(f"{scan}: ").replace(str(scan.parent), "") for line in found.problems]
        if TRACE in found.said:  # an error that nobody expected may hold whatever a header says
            found.problems = [f"{found.problems[0].partition(':')[0]}, which was not expected; series.json tells it"]
        found.notes = [
            line.removeprefix(f"{scan}: ") for line in found.said.splitlines() if line.startswith(f"{scan}: ")
        ]
        found.seconds = time.perf_counter() - start
        return found

    def _run(self, scan: Path) -> list[dict[str, Any]]:
        cases = self._inputs.read_images(scan, self._grid)
        self._dicom.check_series(cases, True)
        self._dataset.data, state = cases, self._evaluator.state
        state.epoch_length, state.output = len(cases), []
        try:
            self._evaluator.run()
            return [item for item in state.output if "saved_to" in item["pred"].meta]
        finally:
            state.output, state.batch = [], None  # a scan and its probabilities are large


def read_flags(config: Path, flags: Sequence[str]) -> dict[str, Any]:
    """Return overrides of a bundle's inference.json, looked at as its own command looks at them.

    Raises:
        InputError: one line for each that can't be.
    """
    words = [str(Path(*PLACE)), "run", "--config_file", str(config), *flags]
    if flags and not flags[0].startswith("--"):
        raise InputError(f"{flags[0]!r} is no argument; wanted --key value, a key of {config.name}")
    sys.path.insert(0, str(config.parents[1]))  # where the bundle's code lies
    kinds = importlib.import_module("scripts.settings").SETTINGS
    importlib.import_module("scripts.common.launch.settings").check_settings(kinds, argv=words)
    command = read_command(words)
    given = {} if command is None else {name: value for name, value, _ in command.given}
    if own := [name for name in given if name in OWN]:
        raise InputError([f"--{name} is what the service gives itself; wanted without it" for name in own])
    return given


@contextlib.contextmanager
def logged(stream: TextIO) -> Iterator[None]:
    """Write to a stream what is logged meanwhile."""
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
