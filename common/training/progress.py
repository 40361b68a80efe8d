"""Progress of a training stage: one live line on a terminal, a line an epoch in a log file."""

from __future__ import annotations

import atexit
import logging
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events, State
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

REFRESH_SECONDS = 0.2


class ProgressBar:
    """Handler that shows stage, epoch, step, losses, speed and the time left for the stage, and keeps the history.

    On a terminal it is one live line; elsewhere a line an epoch, no more often than every `log_interval` seconds but
    for the first and the last one. Silent on ranks above 0. The losses are `engine.state.losses` (name -> float),
    else the scalars of `engine.state.output`, a dict or a list of dicts.

    `history` is name -> [(epoch, mean over the epoch)] and part of the state dict, so that curves survive a resume.
    An epoch enters it with its last step, before anything that listens to EPOCH_COMPLETED saves it.

    Args:
        stage: name shown.
        stream: where to; standard output by default.
        log_interval: seconds between two lines of a log file.
    """

    def __init__(self, stage: str, stream: TextIO | None = None, log_interval: float = 5.0) -> None:
        self.stage = stage
        self.stream = stream
        self.log_interval = log_interval
        self.history: dict[str, list[tuple[int, float]]] = {}
        self._progress: Progress | None = None
        self._redirected: list[tuple[logging.StreamHandler, Any]] = []
        self._restart(0)

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_STARTED | Events.GET_BATCH_STARTED, self._step_starts)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._step_ends)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch_ends)
        # not EXCEPTION_RAISED: ignite swallows an exception that a handler listens to
        engine.add_event_handler(Events.COMPLETED | Events.TERMINATE, self._close)

    def record(self, name: str, epoch: int, value: float) -> None:
        """Add a value of another origin, e.g. a validation score, to the history."""
        self.history.setdefault(name, []).append((int(epoch), float(value)))

    def state_dict(self) -> dict[str, Any]:
        return {"history": {name: [list(pair) for pair in pairs] for name, pairs in self.history.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.history = {
            name: [(int(epoch), float(value)) for epoch, value in pairs] for name, pairs in state["history"].items()
        }

    def _restart(self, iteration: int) -> None:
        self._started = self._step_started = time.perf_counter()
        self._first_iteration = iteration
        self._last_line = -float("inf")
        self._last_refresh = -float("inf")
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._step_seconds: float | None = None

    def _start(self, engine: Engine) -> None:
        self._close()
        self._restart(engine.state.iteration)
        stream = self.stream or sys.stdout
        if idist.get_rank() > 0 or not stream.isatty():
            return
        columns = (
            TextColumn(self.stage, markup=False, style="bold", table_column=Column(no_wrap=True, min_width=10)),
            BarColumn(bar_width=12),
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, ratio=1)),
        )
        # refreshed by hand: a thread of its own would meet the forks of the data loader's workers
        self._progress = Progress(*columns, console=Console(file=stream), auto_refresh=False, expand=True)
        before = sys.stdout, sys.stderr
        self._progress.start()
        self._task = self._progress.add_task("", total=self._total(engine))
        for handler in logging.getLogger().handlers:
            # a log record written past the live line would tear it, so it takes the way that print() takes
            if isinstance(handler, logging.StreamHandler) and handler.stream in before:
                self._redirected.append((handler, handler.stream))
                handler.setStream(sys.stdout if handler.stream is before[0] else sys.stderr)
        atexit.register(self._close)

    def _close(self) -> None:
        if self._progress is None:
            return
        for handler, stream in self._redirected:
            handler.setStream(stream)
        self._redirected.clear()
        self._progress.stop()
        self._progress = None
        atexit.unregister(self._close)

    def _step_starts(self) -> None:
        self._step_started = time.perf_counter()

    def _step_ends(self, engine: Engine) -> None:
        now = time.perf_counter()
        seconds = now - self._step_started
        self._step_started = now
        self._step_seconds = seconds if self._step_seconds is None else 0.9 * self._step_seconds + 0.1 * seconds
        for name, value in scalar_losses(engine.state).items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1
        if self._progress is not None and now - self._last_refresh > REFRESH_SECONDS:
            self._show(engine, now)
        length = engine.state.epoch_length
        if length and engine.state.iteration % length == 0:
            for name, mean in self._means().items():
                self.record(name, engine.state.epoch, mean)

    def _epoch_ends(self, engine: Engine) -> None:
        now = time.perf_counter()
        last = engine.state.epoch == engine.state.max_epochs
        if self._progress is not None:
            self._show(engine, now)
        elif idist.get_rank() == 0 and (last or now - self._last_line >= self.log_interval):
            print(f"{self.stage:<10s}  {self._line(engine, now)}", file=self.stream or sys.stdout, flush=True)
            self._last_line = now
        self._sums.clear()
        self._counts.clear()

    def _show(self, engine: Engine, now: float) -> None:
        self._progress.update(self._task, completed=engine.state.iteration, description=self._line(engine, now))
        self._progress.refresh()
        self._last_refresh = now

    def _line(self, engine: Engine, now: float) -> str:
        state = engine.state
        epoch = f"epoch {state.epoch}/{state.max_epochs}"
        losses = format_losses(self._means())
        speed = f"{self._step_seconds:.3f} s/step" if self._step_seconds is not None else ""
        done, total = state.iteration - self._first_iteration, self._total(engine)
        # all that passed counts, validation and checkpoints too, so that the time left holds them as well
        left = f"left {clock((now - self._started) / done * (total - state.iteration))}" if done and total else ""
        parts = [epoch, losses, speed, left]
        if self._progress is not None:
            step = f"step {(state.iteration - 1) % state.epoch_length + 1}/{state.epoch_length}" if total else ""
            parts = [epoch, step, left, speed, losses]  # a narrow terminal cuts the end, and that is the losses
        return "  ".join(part for part in parts if part)

    def _means(self) -> dict[str, float]:
        return {name: total / self._counts[name] for name, total in self._sums.items()}

    @staticmethod
    def _total(engine: Engine) -> int | None:
        state = engine.state
        return state.max_epochs * state.epoch_length if state.max_epochs and state.epoch_length else None


def scalar_losses(state: State) -> dict[str, float]:
    """Return the losses of the last step: `state.losses`, else the scalars of `state.output` (list: their means)."""
    losses = getattr(state, "losses", None)
    if isinstance(losses, Mapping):
        return {str(name): float(value) for name, value in losses.items()}
    output = state.output
    items = output if isinstance(output, list | tuple) else [output]
    found: dict[str, list[float]] = {}
    for item in items:
        for name, value in item.items() if isinstance(item, Mapping) else ():
            scalar = isinstance(value, int | float) or (isinstance(value, torch.Tensor) and value.ndim == 0)
            if scalar and not isinstance(value, bool):
                found.setdefault(str(name), []).append(float(value))
    return {name: sum(values) / len(values) for name, values in found.items()}


def format_losses(losses: Mapping[str, float]) -> str:
    """Text of the losses: the one called "loss" first, its parts in brackets."""
    parts = ", ".join(f"{name} {value:.3g}" for name, value in losses.items() if name != "loss")
    if "loss" not in losses:
        return parts
    return f"loss {losses['loss']:.4g}" + (f" ({parts})" if parts else "")


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
