"""Each series once, whatever happens in between; the model is one that writes a few words."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from common.errors import InputError
from tools.watching.dicomweb import Unreachable
from tools.watching.folder import FolderSource
from tools.watching.held_bundle import Segmented
from tools.watching.journal import Journal
from tools.watching.merged_review import as_table, read_rows
from tools.watching.results import Results
from tools.watching.series import Part, Series
from tools.watching.service import OUT, Patience, Service

NAMES = ("1.2.1", "1.2.2", "1.2.3")
KEYS = [Series(name, 1).key for name in NAMES]


class Words:
    """Stands for a held bundle: writes what inference.json does; `problems` are of keys that fail, `did` all it did."""

    def __init__(self, work: Path, problems: dict[str, list[str]] | None = None) -> None:
        self.out, self.problems, self.did, self.about = work / OUT, problems or {}, [], {"model": "0123456789abcdef"}
        self.each = lambda: None

    def segment(self, scan: Path) -> Segmented:
        key = scan.name.partition(".")[0]
        self.did.append(key)
        self.each()
        if key in self.problems:
            return Segmented(self.problems[key], said="all of it")
        folder = self.out / key
        folder.mkdir(parents=True)
        (folder / f"{key}_seg.dcm").write_text(f"segmentation of {scan.read_text()}")
        (self.out / "review.csv").write_text(as_table([[{"case": key, "look": "no", "predicted_dice": "0.9"}]]))
        return Segmented(volumes={1: 2.5}, labels=[1, 2], why=[], notes=["seen"])


class Given:
    """A source whose series are given; `marks` may change, `broken` says which answers are none."""

    unreadable = 0

    def __init__(self, marks: dict[str, int], age: float | None = None) -> None:
        self.marks, self.age, self.broken, self.silent = dict(marks), age, 0, 0

    def find(self):
        if self.silent:
            self.silent -= 1
            raise Unreachable("no answer (Connection refused)")
        return [Series(name, mark, self.age, number=5) for name, mark in self.marks.items()]

    def bring(self, series, work):
        if self.broken:
            self.broken -= 1
            raise Unreachable("19 of 20 instances came")
        (work / series.key).write_text(series.name)
        return work / series.key


class Server:
    """Keeps what it is given in a folder; `refusals` are its answers to the first files."""

    def __init__(self, folder: Path, refusals: int = 0) -> None:
        self.folder, self.refusals = folder, refusals
        folder.mkdir(exist_ok=True)

    def store(self, file: Path) -> None:
        if self.refusals:
            self.refusals -= 1
            raise Unreachable("it answers 500")
        (self.folder / f"{file.name} {time.time_ns()}").write_text(file.read_text())


def make(folder, source, problems=None, store=None, part=None, **patience):
    results, said = Results(folder / "out", part or Part()), io.StringIO()
    waits = Patience(**{"settle": 0, "poll": 0.01, **patience})
    service = Service(source, Words(results.work, problems), results, Journal(said), waits, store)
    service.said = said
    return service


def lines(service):
    return [re.sub(r"^\S+Z ", "", line) for line in service.said.getvalue().splitlines()]


def test_series_become_results_with_a_line_each(tmp_path):
    service = make(tmp_path, Given(dict.fromkeys(NAMES, 20)))
    service.run(once=True)
    assert service.model.did == KEYS and (service.done, service.failed) == (3, 0)
    assert lines(service) == [
        f"{key} (series 5)  0.0 s  label 1: 2.50 ml, label 2: not found  look: no" for key in KEYS
    ]
    for name, key in zip(NAMES, KEYS, strict=True):
        folder = tmp_path / "out" / key
        assert sorted(path.name for path in folder.iterdir()) == [f"{key}_seg.dcm", "review.csv", "series.json"]
        entry = json.loads((folder / "series.json").read_text())
        assert entry["series"] == name and entry["volumes_ml"] == {"1": 2.5} and entry["notes"] == ["seen"]
    assert [row["case"] for row in read_rows(tmp_path / "out" / "review.csv")] == sorted(KEYS)
    service.run(once=True)
    assert service.model.did == KEYS


def test_a_series_that_fails_is_tried_again_then_said_and_costs_no_other(tmp_path):
    service = make(tmp_path, Given(dict.fromkeys(NAMES, 20)), {KEYS[0]: ["a gap of 5 mm; wanted none"]}, tries=2)
    service.run(once=True)
    assert service.model.did == [*KEYS, KEYS[0]] and (service.done, service.failed) == (2, 1)
    told = [line for line in lines(service) if "not segmented" in line]
    assert told == [
        f"{KEYS[0]} (series 5)  0.0 s  not segmented, try 1 of 2: a gap of 5 mm; wanted none",
        f"{KEYS[0]} (series 5)  0.0 s  not segmented, given up after 2 tries: a gap of 5 mm; wanted none",
    ]
    first = read_rows(tmp_path / "out" / "review.csv")[0]
    assert (first["case"], first["look"]) == (KEYS[0], "yes")
    assert first["why"] == "not segmented: a gap of 5 mm; wanted none"
    entry = json.loads((tmp_path / "out" / KEYS[0] / "series.json").read_text())
    assert entry["problems"] == ["a gap of 5 mm; wanted none"] and entry["said"] == "all of it"
    service.source.marks[NAMES[0]] += 1  # another slice came
    service.model.problems.clear()
    service.run(once=True)
    assert service.model.did[4:] == [KEYS[0]] and service.done == 3


def test_a_series_that_still_grows_is_left_alone(tmp_path):
    source = Given({"1.2.1": 1})
    service = make(tmp_path, source, settle=0.2, poll=0.02)
    grown = []

    def find():
        source.marks["1.2.1"] = min(source.marks["1.2.1"] + 1, 12)
        grown.append(time.monotonic())
        return [Series(name, mark) for name, mark in source.marks.items()]

    source.find = find
    threading.Timer(1.5, service.stop.set).start()
    service.run()
    entry = json.loads((tmp_path / "out" / KEYS[0] / "series.json").read_text())
    assert service.model.did == [KEYS[0]] and entry["mark"] == 12


@pytest.mark.parametrize(("age", "ready"), [(61.0, True), (59.0, False), (-5.0, False), (None, False)])
def test_files_that_have_rested_need_no_watching(tmp_path, age, ready):
    service = make(tmp_path, Given({"1.2.1": 1}, age), settle=60)
    assert service._look(once=True) is not ready
    assert service.model.did == KEYS[:1] * ready


def test_parts_share_the_work_and_the_table(tmp_path):
    names = [f"1.2.{n}" for n in range(12)]
    did = []
    for number in (1, 2, 3):
        service = make(tmp_path, Given(dict.fromkeys(names, 1)), part=Part(number, 3))
        service.run(once=True)
        did.append(service.model.did)
        service.results.close()
    assert all(did) and sorted(key for share in did for key in share) == sorted(Series(name, 1).key for name in names)
    assert len(read_rows(tmp_path / "out" / "review.csv")) == 12


def test_what_is_found_is_stored_and_stored_again_where_it_was_refused(tmp_path):
    service = make(tmp_path, Given(dict.fromkeys(NAMES, 1)), store=Server(tmp_path / "server", refusals=2))
    service.run(once=True)
    assert sorted(path.name.split()[0] for path in (tmp_path / "server").iterdir()) == sorted(
        f"{key}_seg.dcm" for key in KEYS
    )
    assert f"{KEYS[0]}  not stored, try 1 of 3: it answers 500" in lines(service)
    service.run(once=True)
    assert len(list((tmp_path / "server").iterdir())) == 3


def test_a_server_that_never_takes_it_is_not_asked_forever(tmp_path):
    service = make(tmp_path, Given({"1.2.1": 1}), store=Server(tmp_path / "server", refusals=100))
    service.run(once=True)
    assert sum("not stored" in line for line in lines(service)) == 3
    service.results.close()
    service = make(tmp_path, Given({"1.2.1": 1}), store=Server(tmp_path / "server"))  # begun anew, it is asked again
    service.run(once=True)
    assert service.model.did == [] and len(list((tmp_path / "server").iterdir())) == 1


def test_a_server_that_is_away_for_a_while(tmp_path):
    source = Given({"1.2.1": 1, "1.2.2": 1})
    source.silent, source.broken = 2, 1
    service = make(tmp_path, source)
    threading.Timer(0.6, service.stop.set).start()
    service.run()
    said = lines(service)
    assert said[0] == "the server: no answer (Connection refused); asked again every 0.01 s"
    assert said[1] == "the server answers again" and "could not be fetched: 19 of 20 instances came" in said[2]
    assert service.done == 2
    source.silent = 1
    service.stop.clear()
    with pytest.raises(InputError, match="no answer"):
        service.run(once=True)


def test_files_that_begin_as_dicom_are_counted_once(tmp_path):
    source = Given({})
    source.unreadable = 2
    service = make(tmp_path, source)
    service.run(once=True)
    service.run(once=True)
    assert lines(service) == ["2 files begin as DICOM and can't be read"]


def test_the_end_comes_behind_the_series_at_hand(tmp_path):
    service = make(tmp_path, Given(dict.fromkeys(NAMES, 1)))
    service.model.each = service.stop.set
    service.run()
    assert service.model.did == KEYS[:1] and service.done == 1
    assert len(read_rows(tmp_path / "out" / "review.csv")) == 1


def in_a_process(do) -> int | None:
    """Run in a process of its own; return the signal that ended it."""
    child = os.fork()
    if not child:
        try:
            do()
        except BaseException:
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else None


STEPS = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.symlink", "shutil.rmtree", "os.truncate")
SCANS = ("Mueller_1.nii", "Mueller_2.nii")


def killed_at(number, folder):
    """Work in `folder` as a process that is killed at a step on the disk; return whether there were as many."""

    def work():
        left = [number]

        def count(event, arguments):
            if event in STEPS and str(arguments[0]).startswith(str(folder / "out")):
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        make(folder, FolderSource(folder / "in", ["CT"]), store=Server(folder / "server")).run(once=True)

    return in_a_process(work) is not None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that begin as copies")
def test_a_kill_at_any_step_on_the_disk_costs_nothing_and_doubles_nothing(tmp_path):
    keys = {Series(name, 1).key: name for name in SCANS}
    (tmp_path / "0" / "in").mkdir(parents=True)
    for name in SCANS:
        (tmp_path / "0" / "in" / name).write_text(name)
    number = 1
    while killed_at(number, folder := Path(shutil.copytree(tmp_path / "0", tmp_path / str(number)))):
        again = make(folder, FolderSource(folder / "in", ["CT"]), store=Server(folder / "server"))
        again.run(once=True)
        again.results.close()
        found = {path.name for path in (folder / "out").iterdir() if path.name[0] != "."}
        assert found == {*keys, "review.csv"} and not list((folder / "out").rglob(".tmp-*")), number
        assert [row["case"] for row in read_rows(folder / "out" / "review.csv")] == sorted(keys), number
        for key, name in keys.items():
            mask = (folder / "out" / key / f"{key}_seg.dcm").read_text()
            sent = [path.read_text() for path in (folder / "server").iterdir() if path.name.startswith(key)]
            assert mask == f"segmentation of {name}" and set(sent) == {mask} and len(sent) <= 2, number
            assert json.loads((folder / "out" / key / "series.json").read_text())["sent"] is True, number
        shutil.rmtree(folder)
        number += 1
    assert number > 40


def test_a_scan_that_ends_the_process_is_not_begun_forever(tmp_path):
    def run(dying):
        service = make(tmp_path, Given({"1.2.1": 1, "1.2.2": 1}), tries=2)
        if dying:
            service.model.each = lambda: os.kill(os.getpid(), signal.SIGKILL)
        service.run(once=True)

    assert [in_a_process(lambda: run(True)) for _ in range(2)] == [signal.SIGKILL] * 2
    service = make(tmp_path, Given({"1.2.1": 1, "1.2.2": 1}), tries=2)
    service.run(once=True)
    assert service.model.did == KEYS[1:2]
    assert "given up after 2 tries: the process was ended each time" in lines(service)[0]
