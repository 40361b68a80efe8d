"""One line for each file that a prediction wrote."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import torch
from ignite.engine import Engine, Events
from torch import Tensor

from ..errors import printable
from ..files.tensor_files import listed
from ..launch.endings import nothing_to_tell, tell_when_stopped

SLAB = 4_000_000  # voxels


class PredictionLog:
    """Ignite handler that prints path, volume of every label in ml, and seconds from reading to writing.

    A label of which nothing was found stands in that line as `not found`, and in a warning that names the scan: the
    structure may be out of its field of view, or the network has missed it.

    Args:
        keys: outputs that `SaveImaged(savepath_in_metadict=True)` has written; the first is the label map.
        label_values: of the network's classes, background first.
    """

    def __init__(
        self,
        keys: Sequence[str] = ("pred", "probabilities", "uncertainty"),
        label_values: Sequence[int] = (),
    ) -> None:
        self.keys = list(keys)
        self.foreground = [int(value) for value in label_values[1:]]
        self.done: list[str] = []
        self._start, self._all = 0.0, 0

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.report)
        engine.add_event_handler(Events.COMPLETED, nothing_to_tell)

    def start(self, engine: Engine) -> None:
        self._start, self._all, self.done = time.perf_counter(), engine.state.epoch_length, []
        tell_when_stopped(self.say_done)

    def say_done(self) -> str:
        """Return which scans are done, for whoever stops the rest."""
        done = f": {listed(self.done)}" if self.done else ""
        return f"{len(self.done)} of {self._all} scans are done{done}; the same command does all of them"

    def report(self, engine: Engine) -> None:
        now = time.perf_counter()
        seconds = (now - self._start) / max(len(engine.state.output), 1)
        self._start = now
        for item in engine.state.output:
            for key in self.keys:
                if key not in item or "saved_to" not in item[key].meta:
                    continue
                line = printable(item[key].meta["saved_to"])
                if key != self.keys[0]:
                    print(line, flush=True)
                    continue
                found = label_volumes(item[key])
                print(f"{line}  {describe_volumes(found, self.foreground)}  {seconds:.2f} s", flush=True)
                self.done.append(line)
                missing = ", ".join(str(value) for value in self.foreground if value not in found)
                if missing:
                    scan = printable(item[key].meta.get("filename_or_obj", line))
                    print(f"warning: {scan}: nothing was found of label {missing}; see whether the scan shows it")


def label_volumes(label: Tensor) -> dict[int, float]:
    """Return the volume in ml of each foreground value of a label map [1, H, W, D] whose affine is in mm."""
    voxel = abs(float(torch.linalg.det(label.affine[:3, :3].double()))) / 1000
    counts: Counter[int] = Counter()
    values = torch.from_numpy(label.as_tensor().cpu().numpy().ravel(order="K"))  # as it lies in memory, without a copy
    for part in values.split(SLAB):  # all at once would take nine times the label map's memory
        counts.update(dict(enumerate(torch.bincount(part).tolist())))
    return {value: count * voxel for value, count in sorted(counts.items()) if value != 0 and count}


def describe_volumes(found: Mapping[int, float], wanted: Iterable[int] = ()) -> str:
    """Return "label 1: 12.30 ml, label 4: not found" for volumes in ml by value, of which some may be wanted."""
    texts = {value: "not found" for value in wanted} | {value: f"{volume:.2f} ml" for value, volume in found.items()}
    return ", ".join(f"label {value}: {text}" for value, text in sorted(texts.items())) or "no label found"
