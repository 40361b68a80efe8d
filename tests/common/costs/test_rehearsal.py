from __future__ import annotations

import pytest
from ignite.engine import Engine

from common.costs import line, rehearsal
from common.costs.line import Clock
from common.costs.pieces import Pieces, let_rehearse
from common.costs.rehearsal import Rehearsal
from common.processes import together


class Time:
    """A clock that goes on when it is told to."""

    def __init__(self):
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def time(monkeypatch) -> Time:
    found = Time()
    monkeypatch.setattr(line.Clock, "now", classmethod(lambda cls: cls(found.now, found.now / 2)))
    return found


@pytest.fixture
def watching(time, tmp_path):
    """A dry run of ten cases `a` and `b`, five each, and one `c`."""
    one = Rehearsal(tmp_path)
    let_rehearse(one)
    one.begin([], {"a": 5, "b": 5, "c": 1})
    yield one
    one.end()


def told(one: Rehearsal) -> dict[str, tuple]:
    return {found.name: (found.here, found.count, found.each.wall, found.in_all.wall) for found in one.lines}


def test_work_that_goes_case_by_case_stands_for_all(watching, time):
    """Once 1 s, then 4 s, of which 2 warm up, 2 s and 2 s: 1 + 2 + 2 * 11."""
    with watching.stage("cases"):
        time.sleep(1)
        for case in together([{"case": "a"}, {"case": "b"}, {"case": "c"}]):
            time.sleep(4 if case["case"] == "a" else 2)
    assert told(watching) == {"cases": (3, 11, 2, 25)}
    (found,) = watching.lines
    assert found.once.wall == 3 and found.more.wall == 16 and found.in_all.cpu == 12.5


def test_cases_of_another_kind_keep_their_own_time(watching, time):
    """`c` takes 20 s and is one alone: 10 * 2 + 20."""
    with watching.stage("cases"):
        for case in together(["a", "b", "c"]):
            time.sleep(20 if case == "c" else 2)
    assert watching.lines[0].in_all.wall == 40


def test_each_piece_may_be_more_work_in_a_real_run(watching, time):
    with watching.stage("bridges"):
        for _ in together(["a", "b"], times=2.0):
            time.sleep(1)
    assert told(watching) == {"bridges": (2, 20, 1, 20)}


def test_a_stage_says_itself_how_much_it_does(watching, time):
    with watching.stage("load", Pieces(2, 10)):
        time.sleep(6)
    with watching.stage("as a whole"):
        time.sleep(6)
    assert told(watching) == {"load": (2, 10, 3, 30), "as a whole": (0, 0, 0, 6)}
    assert [found.unit for found in watching.lines] == ["cases", ""]


def test_rounds_of_a_stage_are_one(watching, time):
    """Two of eight rounds with two cases each: 4 pieces of 16, of 1 s and 3 s."""
    for seconds in (1, 3):
        with watching.stage("ask", Pieces(2, 16, again=True)):
            for _ in together(["a", "b"]):
                time.sleep(seconds)
    assert told(watching) == {"ask": (4, 16, 2, 1 + 1 + 3 + 3 + 12 * 2)}


def test_a_stage_that_comes_again_for_another_grid_adds_to_each_case(watching, time):
    for seconds in (2, 4):
        with watching.stage("load", Pieces(2, 10)):
            time.sleep(seconds)
    assert told(watching) == {"load": (2, 10, 3, 30)}


def test_a_stage_within_another_counts_once(watching, time):
    with watching.stage("outer"):
        time.sleep(1)
        with watching.stage("inner", Pieces(1, 3)):
            time.sleep(2)
    assert told(watching) == {"inner": (1, 3, 2, 6), "outer": (0, 0, 0, 1)}


def test_new_labels_within_a_training_are_no_steps_of_it(watching, time):
    with watching.stage("train", unit="steps", training=True):
        time.sleep(1)
        for _ in together(["a", "b"]):
            time.sleep(2)
    assert told(watching) == {"train: labels": (2, 10, 2, 20), "train": (0, 0, 0, 1)}


def test_files_stay_as_many_as_there_are_cases(watching, tmp_path):
    with watching.stage("labels", Pieces(2, 10)):
        (tmp_path / "labels").write_bytes(bytes(1000))
    with watching.stage("answers", Pieces(2, 50, kept=20)):
        (tmp_path / "answers").write_bytes(bytes(10))
    with watching.stage("train", training=True) as measured:
        (tmp_path / "log").write_bytes(bytes(7))
        (tmp_path / "checkpoint").write_bytes(bytes(100))
        measured.files = (100, 200)  # two of them stay
    (tmp_path / "model").write_bytes(bytes(50))
    assert [found.disk for found in watching.lines] == [5000, 100, 207] and watching.disk == 5357


def test_iterations_of_an_engine_are_pieces(watching, time):
    engine = Engine(lambda engine, batch: time.sleep(batch))
    watching.watch_engine(engine, ["a", "c"])
    with watching.stage("evaluate"):
        engine.run([9, 3])
    assert told(watching) == {"evaluate": (2, 6, 3, 9 + 3 + 4 * 3)}


def test_what_a_run_says_is_not_heard(capsys, tmp_path):
    one = Rehearsal(tmp_path)
    one.begin([], {})
    print("Dice .1")
    with one.stage("any"):
        print("Dice .2")
    one.end()
    print("the end")
    assert capsys.readouterr().out.splitlines() == ["dry run: any", "the end"]


def test_a_look_at_the_memory_is_no_part_of_a_run(watching, time, monkeypatch):
    monkeypatch.setattr(rehearsal, "held_mib", lambda: time.sleep(50) or 0.0)
    with watching.stage("outer"), watching.stage("inner"):
        time.sleep(1)
    assert told(watching) == {"inner": (0, 0, 0, 1), "outer": (0, 0, 0, 0)} and watching.apart == Clock(200, 100)
