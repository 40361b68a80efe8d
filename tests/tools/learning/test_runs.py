from __future__ import annotations

import json
import math

import pytest

from common.errors import InputError
from support.data.finished_runs import write_run
from tools.learning.runs import other_settings, read_runs

ORGANS = {"liver": [0.8, 0.6, None], "spleen": [0.6, None, None]}


def test_runs_are_read_with_the_means_of_their_cases(tmp_path):
    folders = [write_run(tmp_path / "four", 4, ORGANS), write_run(tmp_path / "one", 1, ORGANS)]
    one, four = read_runs(folders)
    assert (one.labels, four.labels, one.scans, one.name) == (1, 4, 20, "one")
    assert list(one.dice) == ["liver", "spleen", "overall"] and one.cases == ["case_0", "case_1", "case_2"]
    overall = one.scores("overall")
    assert overall[:2] == pytest.approx([0.7, 0.6]) and math.isnan(overall[2])
    assert other_settings([one, four]) == []  # labels and folders are no other settings


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"bundle": "b"}, "two: is of the bundle 'b'; wanted 'a', as in "),
        ({"learnt": "xyz"}, "two: learnt from data of hash xyz; wanted abc .--grown"),
        ({"cases": ["case_0", "case_1", "other"]}, "two: scored 3 cases, not all the same .case_2.; wanted those as"),
    ],
)
def test_what_differs_between_two_runs_is_told_in_a_line(tmp_path, other, told):
    one = write_run(tmp_path / "one", 1, ORGANS, bundle="a")
    two = write_run(tmp_path / "two", 2, ORGANS, **{"bundle": "a", **other})
    with pytest.raises(InputError, match=told) as raised:
        read_runs([one, two])
    assert len(raised.value.problems) == 1


def test_other_structures_are_refused_and_added_labels_allowed_when_said(tmp_path):
    one = write_run(tmp_path / "one", 1, ORGANS)
    two = write_run(tmp_path / "two", 2, {"liver": [0.8, 0.6, None]})
    with pytest.raises(InputError, match="has the labels liver; wanted liver, spleen, as in"):
        read_runs([one, two])
    grown = write_run(tmp_path / "grown", 2, ORGANS, learnt="more")
    assert [run.labels for run in read_runs([one, grown], grown=True)] == [1, 2]


def test_a_run_that_is_given_twice_and_one_number_of_labels_are_refused(tmp_path):
    one = write_run(tmp_path / "one", 2, ORGANS)
    copy = write_run(tmp_path / "copy", 2, ORGANS)
    draw = write_run(tmp_path / "draw", 2, ORGANS, seed=1)
    with pytest.raises(InputError, match="one: is the same run as"):
        read_runs([one, one])
    with pytest.raises(InputError, match=r"copy: is the same run as .*one; wanted each run once"):
        read_runs([one, copy])
    with pytest.raises(InputError, match="found 2 runs with 2 labelled volumes; wanted two different numbers"):
        read_runs([one, draw])


def test_all_folders_that_are_no_finished_run_are_named(tmp_path):
    good = write_run(tmp_path / "good", 1, ORGANS)
    silent = write_run(tmp_path / "silent", None, ORGANS)
    unscored = write_run(tmp_path / "unscored", 2, {"liver": [None]})
    broken = write_run(tmp_path / "broken", 2, ORGANS)
    (broken / "metrics.json").write_text(json.dumps({"rows": []}))
    with pytest.raises(InputError) as raised:
        read_runs([good, tmp_path / "nowhere", silent, unscored, broken])
    missing, unsaid, none, wrong = raised.value.problems
    assert "nowhere/run.json: cannot be read" in missing
    assert "results.labeled is None; wanted the number of labelled volumes" in unsaid
    assert "unscored/metrics.json: no case has a Dice" in none and "broken: run.json or metrics.json" in wrong


def test_settings_that_differ_beside_the_labels_are_found(tmp_path):
    runs = read_runs([write_run(tmp_path / "one", 1, ORGANS), write_run(tmp_path / "two", 2, ORGANS, epochs=40)])
    assert other_settings(runs) == ["train.max_epochs is 10, 40"]
