"""What a data set is told to train and to draw, through the command."""

from __future__ import annotations

import json
import shutil

import pytest

from common.errors import InputError
from tools import advise

MEASURED = [
    {"row": "rrl_medsam", "dataset": "heart", "dice": 0.7, "annotation": {"volumes": 1}},
    {"row": "semisam_plus", "dataset": "heart", "dice": 0.8, "annotation": {"volumes": 2}},
    {"row": "weakmedsam", "dataset": "heart", "dice": 0.5, "annotation": {"bits": 4400}},
]


@pytest.fixture(autouse=True)
def measured(monkeypatch):
    monkeypatch.setattr(advise, "read_measured", lambda: MEASURED)
    monkeypatch.setenv("COLUMNS", "120")


def with_masks(cohort, folder, count):
    """A copy of the cohort in which so many training cases have a mask, which is no readable file."""
    shutil.copytree(cohort, folder)
    content = json.loads((folder / "dataset.json").read_text())
    content["labels"] = {"0": "background", "1": "organ"}
    for number, entry in enumerate(content["training"]):
        entry.pop("slice_labels", None)
        if number < count:
            (folder / entry["label"]).write_bytes(b"never opened")
        else:
            del entry["label"]
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def rows(text):
    """The table's rows: minutes -> what to use and its Dice."""
    found = {}
    for line in text.splitlines():
        time, _, rest = line.strip().partition("  ")
        if time in ("now", "10 min", "30 min", "60 min"):
            found[time] = " ".join(rest.split())
    return found


def test_what_is_drawn_already_can_be_trained_now(tiny_cohort, tmp_path, capsys):
    folder = with_masks(tiny_cohort, tmp_path / "one", 1)
    assert advise.main([str(folder), "--minutes", "10,30,60"]) == 0
    said = capsys.readouterr().out
    assert "5 scans, 1 with a whole mask" in said
    found = rows(said)
    assert found["now"] == found["10 min"] == "rrl_medsam, 1 volume (0 s) 0.70"
    assert found["30 min"] == found["60 min"] == "semisam_plus, 2 volumes (30 min) 0.80"
    assert "bundles/rrl_medsam/configs/train.json --atlas CASE --dataset_dir DIR" in said


def test_without_any_label_there_is_nothing_to_train_now(tiny_cohort, tmp_path, capsys):
    folder = with_masks(tiny_cohort, tmp_path / "none", 0)
    assert advise.main([str(folder), "--minutes", "60", "--minutes_per_volume", "15"]) == 0
    said = capsys.readouterr().out
    assert "nothing yet" in said and "tools.propose_volumes DIR" in said


def test_a_dearer_volume_changes_the_choice(tiny_cohort, tmp_path, capsys):
    folder = with_masks(tiny_cohort, tmp_path / "none", 0)
    advise.main([str(folder), "--minutes", "60", "--minutes_per_volume", "1000", "--minutes_per_bit", "0.01"])
    assert rows(capsys.readouterr().out)["60 min"].startswith("weakmedsam")


def test_a_price_that_is_none_is_refused(tiny_cohort):
    with pytest.raises(InputError, match="minutes_per_bit is 'much'; wanted a number of 0 or more"):
        advise.main([str(tiny_cohort), "--minutes_per_bit", "much"])
