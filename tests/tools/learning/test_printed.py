from __future__ import annotations

import json

import pytest

from common.errors import InputError
from support.data.finished_runs import write_run
from tools.learning_curve import asked_labels, main

MEANS = {1: 0.6, 2: 0.7, 4: 0.76}


@pytest.fixture
def folders(tmp_path):
    """Runs with 1, 2 and 4 labels, two structures, four cases."""
    return [
        str(write_run(tmp_path / f"run_{n}", n, {name: [dice - less, dice, dice, dice + 0.1] for name, less in
                      (("liver", 0.1), ("left [kidney]", 0.3))}, bundle="a bundle"))
        for n, dice in MEANS.items()
    ]  # fmt: skip


def test_table_check_and_assumptions_are_printed_within_80_columns(folders, capsys):
    assert main(folders) == 0
    said = capsys.readouterr().out
    table = said.split("check:")[0]
    assert max(map(len, table.splitlines())) <= 80
    for words in (
        "a bundle: 3 runs",
        "under .70",
        "4.0 h (+2.0 h)",
        "check: 4 labels: predicted from fewer 0.",
        "measured",
    ):
        assert words in said, words
    rows = [line.split() for line in table.splitlines()]
    assert [row[0] for row in rows if row and row[0].isdigit()] == ["1", "2", "4", "8", "16"]
    assert "30 minutes a volume, an assumption" in said and "kidney" not in said


def test_everything_is_written_as_json(folders, tmp_path, capsys):
    path = tmp_path / "out" / "curve.json"
    words = ["--labels", "8,12", "--limit", "0.8", "--minutes_per_volume", "60", "--per_label", "--json", str(path)]
    assert main([*folders, *words]) == 0
    content = json.loads(path.read_text(encoding="utf-8"))
    assert [curve["structure"] for curve in content["curves"]] == ["overall", "liver", "left [kidney]"]
    assert [row["labels"] for row in content["curves"][0]["expected"]] == [8, 12]
    assert content["curves"][1]["measured"][2]["under"] == 0.75 and content["limit"] == 0.8
    assert content["curves"][0]["measured"][0]["minutes"] == 60 and len(content["runs"]) == 3
    said = capsys.readouterr().out
    assert "left [kidney]" in said and "under .80" in said  # no markup


@pytest.mark.parametrize("word", ["4", "3,8", "17", "8.5", "many", ""])
def test_numbers_of_labels_that_say_nothing_are_refused(word):
    with pytest.raises(InputError, match=r"wanted (a )?whole number"):
        asked_labels(word, 4)


def test_numbers_of_labels_are_sorted_and_go_to_four_times_the_most():
    assert asked_labels(None, 4) == [8, 16] and asked_labels("16, 5", 4) == [5, 16]


def test_a_limit_that_is_no_dice_is_refused(folders):
    for word in ("0", "1.5", "half"):
        with pytest.raises(InputError, match="limit is"):
            main([*folders, "--limit", word])
