from __future__ import annotations

import io
import logging
import sys

import pytest
import torch
from ignite.engine import Engine, Events, State

from common.training import progress
from common.training.progress import ProgressBar, clock, format_losses, scalar_losses


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _run(bar: ProgressBar, epochs: int, start: Engine | None = None, length: int = 3) -> Engine:
    def step(engine, batch):
        engine.state.losses = {"loss": float(engine.state.iteration), "similarity": 0.5}

    engine = Engine(step)
    if start is not None:
        engine.load_state_dict(start.state_dict())
    bar.attach(engine)
    engine.run(range(length), max_epochs=epochs)
    return engine


def test_log_file_gets_a_line_an_epoch():
    stream = io.StringIO()
    _run(ProgressBar("register", stream, log_interval=0), epochs=3)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("register    epoch 1/3  loss 2 (similarity 0.5)  ")
    assert lines[2].startswith("register    epoch 3/3  loss 8 (similarity 0.5)  ")
    assert lines[2].endswith("s/step  left 0:00")
    assert "\x1b" not in stream.getvalue()


def test_log_lines_are_not_too_many_but_first_and_last_are_there():
    stream = io.StringIO()
    _run(ProgressBar("register", stream, log_interval=60), epochs=20)
    assert [line.split()[2] for line in stream.getvalue().splitlines()] == ["1/20", "20/20"]


def test_time_left_counts_what_this_run_did(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    stream = io.StringIO()
    first = Engine(lambda engine, batch: None)
    first.run(range(3), max_epochs=2)

    def step(engine, batch):
        now[0] += 10

    engine = Engine(step)
    engine.load_state_dict(first.state_dict())
    ProgressBar("train", stream, log_interval=0).attach(engine)
    engine.run(range(3), max_epochs=4)
    assert [line.split()[-1] for line in stream.getvalue().splitlines()] == ["0:30", "0:00"]
    assert "10.000 s/step" in stream.getvalue()


def test_terminal_gets_one_live_line_and_all_streams_back(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(progress, "REFRESH_SECONDS", 0)
    monkeypatch.setenv("COLUMNS", "120")
    handler = logging.StreamHandler(terminal)
    logging.getLogger().addHandler(handler)
    try:
        bar = ProgressBar("register")
        engine = Engine(lambda engine, batch: logging.getLogger("x").warning("a record"))
        bar.attach(engine)
        engine.run(range(2), max_epochs=1)
        assert handler.stream is terminal and sys.stdout is terminal
    finally:
        logging.getLogger().removeHandler(handler)
    text = terminal.getvalue()
    assert "epoch 1/1  step 2/2" in text
    assert "\x1b[2K" in text  # the line is drawn over itself
    assert text.count("a record\n") == 2  # whole, on lines of their own


def test_exception_is_not_swallowed():
    def step(engine, batch):
        raise RuntimeError("boom")

    engine = Engine(step)
    bar = ProgressBar("register", Terminal())
    bar.attach(engine)
    with pytest.raises(RuntimeError, match="boom"):
        engine.run([0], max_epochs=1)
    bar._close()  # what the interpreter calls on exit
    assert bar._progress is None and type(sys.stdout).__name__ != "FileProxy"


def test_other_ranks_are_silent_and_keep_the_history(monkeypatch):
    monkeypatch.setattr(progress.idist, "get_rank", lambda: 1)
    for stream in (io.StringIO(), Terminal()):
        bar = ProgressBar("register", stream)
        _run(bar, epochs=2)
        assert stream.getvalue() == ""
        assert len(bar.history["loss"]) == 2


def test_history_is_the_mean_of_each_epoch_and_survives_a_resume(tmp_path):
    whole = ProgressBar("a", io.StringIO())
    _run(whole, epochs=4)
    assert whole.history["loss"] == [(1, 2.0), (2, 5.0), (3, 8.0), (4, 11.0)]

    first = ProgressBar("a", io.StringIO())
    engine = _run(first, epochs=2)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = ProgressBar("a", io.StringIO())
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    _run(second, epochs=4, start=engine)
    assert second.history == whole.history


def test_history_has_the_epoch_before_a_checkpoint_is_saved():
    saved = []
    engine = Engine(lambda engine, batch: {"loss": 1.0})
    bar = ProgressBar("a", io.StringIO())
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: saved.append(bar.state_dict()["history"]))
    bar.attach(engine)
    engine.run([0], max_epochs=2)
    assert [state["loss"] for state in saved] == [[[1, 1.0]], [[1, 1.0], [2, 1.0]]]


def test_recorded_values_join_the_history():
    bar = ProgressBar("a")
    bar.record("Dice", 2, torch.tensor(0.5))
    assert bar.history == {"Dice": [(2, 0.5)]}


def test_losses_are_found_in_state_or_output():
    state = State()
    state.output = None
    assert scalar_losses(state) == {}
    image = torch.ones(1, 2, 2)
    state.output = {"loss": torch.tensor(2.0), "image": image, "case": "a", "done": True}
    assert scalar_losses(state) == {"loss": 2.0}
    state.output = [{"loss": 1.0, "image": image}, {"loss": torch.tensor(3.0)}]
    assert scalar_losses(state) == {"loss": 2.0}
    state.losses = {"loss": 0.25, "dice": torch.tensor(0.5)}
    assert scalar_losses(state) == {"loss": 0.25, "dice": 0.5}


def test_texts():
    assert format_losses({"dice": 0.1234, "loss": 0.41235}) == "loss 0.4123 (dice 0.123)"
    assert format_losses({"dice": 0.1}) == "dice 0.1" and format_losses({}) == ""
    assert [clock(s) for s in (0, 71.6, 3600 * 2 + 61, -3)] == ["0:00", "1:12", "2:01:01", "0:00"]
