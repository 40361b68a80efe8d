from __future__ import annotations

import pytest

from common import processes
from common.processes import own_share, part_processes, together
from support.process.rank import act_as


def test_alone_a_process_does_everything_in_order():
    assert own_share("abcde") == list("abcde") and list(together(range(3))) == [0, 1, 2]


@pytest.mark.parametrize(("rank", "own"), [(0, ["a", "d"]), (1, ["b", "e"]), (2, ["c"])])
def test_each_case_is_one_processs(rank, own, monkeypatch):
    act_as(monkeypatch, rank, 3)
    assert own_share({"a": 0, "b": 1, "c": 2, "d": 3, "e": 4}) == own


def test_the_others_are_waited_for_when_the_work_is_done_and_not_when_it_fails(monkeypatch):
    events = []
    act_as(monkeypatch, 1, 2, lambda: events.append("barrier"))
    for item in together(["a", "b"]):
        events.append(item)
    assert events == ["a", "b", "barrier"]
    assert list(together([])) == [] and events[3:] == ["barrier"]  # who has nothing to do waits too

    def fail():
        for item in together(["a", "b"]):
            raise RuntimeError(item)

    with pytest.raises(RuntimeError, match="a"):
        fail()
    assert len(events) == 4


@pytest.mark.parametrize("rank", [0, 1])
def test_the_first_process_shows_a_line(rank, monkeypatch, capsys):
    act_as(monkeypatch, rank, 2)
    assert list(together(["a"], "features")) == ["a"]
    assert ("features" in capsys.readouterr().out) == (rank == 0)
    assert list(together(["a"])) == ["a"] and capsys.readouterr().out == ""


def test_none_leaves_before_the_last_is_done(monkeypatch):
    events = []
    act_as(monkeypatch, 1, 2, lambda: events.append("barrier"))
    monkeypatch.setattr(processes.distributed, "destroy_process_group", lambda: events.append("left"))
    part_processes()
    assert events == ["barrier", "left"]


def test_a_log_file_gets_a_line_every_half_minute_with_the_time_left(monkeypatch, capsys):
    now = iter([0, 0, 20, 40, 60, 80])  # at the start, before each of four items, at the end
    monkeypatch.setattr(processes.time, "monotonic", lambda: next(now))
    assert list(processes.followed(["a", "b", "c", "d"], "registration")) == ["a", "b", "c", "d"]
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["registration  2 of 4  left 0:00:40", "registration  4 of 4  in 0:01:20"]
