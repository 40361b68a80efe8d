from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import InputError
from tools.watching.results import Results
from tools.watching.series import Part, Series

ROOT = Path(__file__).resolve().parents[3]
SERIES = Series("1.2.840", 20, number=4)


@pytest.fixture
def results(tmp_path):
    found = Results(tmp_path / "out", Part())
    yield found
    found.close()


def made(results, series, text="mask"):
    assert results.begin(series)
    folder = results.work / "made"
    folder.mkdir()
    (folder / f"{series.key}_seg.dcm").write_text(text)
    results.finish(series, {"seconds": 1.5}, folder)


def again(results):
    results.close()
    return Results(results.folder, results.part)


def test_a_result_is_its_own_entry(results):
    assert not results.is_done(SERIES)
    made(results, SERIES)
    entry = json.loads((results.folder / SERIES.key / "series.json").read_text())
    assert entry == {"series": "1.2.840", "number": 4, "mark": 20, "seconds": 1.5}
    results = again(results)
    assert results.is_done(SERIES) and results.keys() == [SERIES.key] and not list(results.work.iterdir())
    results.close()


def test_more_of_a_series_is_done_anew_and_less_is_not(results):
    made(results, SERIES)
    assert results.is_done(Series("1.2.840", 19)) and not results.is_done(Series("1.2.840", 21))
    results.note_sent(SERIES.key)
    made(results, Series("1.2.840", 21), "other")
    folder = results.folder / SERIES.key
    assert (folder / f"{SERIES.key}_seg.dcm").read_text() == "other" and not list(results.work.iterdir())
    assert json.loads((folder / "series.json").read_text())["mark"] == 21
    assert results.unsent() == [(SERIES.key, folder / f"{SERIES.key}_seg.dcm")]


def test_tries_are_counted_before_a_scan_is_begun(results):
    assert [results.begin(SERIES), results.begin(SERIES)] == [1, 2]
    results = again(results)
    assert results.begin(SERIES) == 3 and results.begin(Series("1.2.840", 21)) == 1
    made(results, Series("1.2.840", 21))
    results = again(results)
    assert results.tries == {}
    results.close()


def test_what_is_left_of_a_scan_goes(results):
    results.begin(SERIES)
    (results.work / "half").write_text("a download")
    results = again(results)
    assert not list(results.work.iterdir())
    results.close()


def test_a_server_is_given_what_it_lacks(results):
    other = Series("1.2.841", 3)
    made(results, SERIES)
    results.finish(other, {"problems": ["a gap"]}, None)  # no segmentation came of it
    assert [key for key, _ in results.unsent()] == [SERIES.key]
    results.note_sent(SERIES.key)
    assert results.unsent() == []
    results = again(results)
    assert results.unsent() == [] and results.is_done(other)
    results.close()


def test_a_file_that_was_removed_is_not_made_anew(results):
    made(results, SERIES)
    (results.folder / SERIES.key / f"{SERIES.key}_seg.dcm").unlink()
    results = again(results)
    assert results.is_done(SERIES) and results.unsent() == []
    shutil.rmtree(results.folder / SERIES.key)
    results = again(results)
    assert not results.is_done(SERIES)
    results.close()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"mark": "x"}', "{}"])
def test_an_entry_that_says_nothing_counts_as_none(results, text):
    made(results, SERIES)
    (results.folder / SERIES.key / "series.json").write_text(text)
    results = again(results)
    assert not results.is_done(SERIES)
    results.close()


def test_one_process_a_part(results):
    code = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from tools.watching.results import Results
from tools.watching.series import Part
Results(Path({str(results.folder)!r}), Part(*map(int, sys.argv[1:])))
"""
    other = subprocess.run([sys.executable, "-c", code, "1", "2"], capture_output=True, text=True)
    assert other.returncode == 0, other.stderr
    same = subprocess.run([sys.executable, "-c", code, "1", "1"], capture_output=True, text=True)
    assert same.returncode == 1 and "another run writes there" in same.stderr


def test_a_part_knows_its_own_series_alone(results):
    series = [Series(f"1.2.{n}", 1) for n in range(20)]
    for one in series:
        made(results, one)
    half = Results(results.folder, Part(2, 2))
    assert {
        one.key for one in series if Part(2, 2).holds(one.key)
    } == half.entries.keys() and half.keys() == results.keys()
    half.close()


def test_a_full_disk_costs_no_series_its_tries(results, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(InputError, match="0 MiB left; wanted 256 MiB"):
        results.begin(SERIES)
    assert results.tries == {}
