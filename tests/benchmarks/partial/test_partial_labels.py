"""Halves of labels: every label stays somewhere, and each row learns from the masks that it is named for."""

from __future__ import annotations

import json

import numpy as np

from benchmarks import partial_labels
from common.data.datalist import read_datalist
from common.volumes.read import read_volume


def test_every_label_stays_in_one_case_at_least():
    for seed in range(20):
        drawn = partial_labels.draw_halves(["a", "b"], [1, 2, 3, 4, 5], seed)
        assert all(len(values) == 3 for values in drawn.values())
        assert set(drawn["a"]) | set(drawn["b"]) == {1, 2, 3, 4, 5}
    assert drawn == partial_labels.draw_halves(["a", "b"], [1, 2, 3, 4, 5], seed)


def test_rows_differ_in_the_labelled_masks_and_in_what_is_said_of_them(tiny_cohort, tmp_path, monkeypatch, capsys):
    told = []

    def run_bundle(arguments):
        told.append((arguments.dataset, arguments.set))
        return {
            "row": "a",
            "cpu_seconds": 3.0,
            "rows": [{"case": "a", "label": 1, "name": "organ", "dice": 0.5, "hd95": 2.0}],
        }

    monkeypatch.setattr(partial_labels, "run_bundle", run_bundle)
    words = ["--dataset", str(tiny_cohort), "--work", str(tmp_path), "--labels", "2", "--set", "epochs=1"]
    partial_labels.main(words)
    partial_labels.main(words)
    lists = ["dataset.json", "known.json", "background.json"]
    assert [given for _, given in told] == [[f"datalist={n}", "num_labeled=null", "seed=0", "epochs=1"] for n in lists]
    whole, known, background = (read_datalist(tmp_path / "data", name) for name in lists)
    assert {case["case"] for case in whole.training} == {case["case"] for case in read_datalist(tiny_cohort).training}
    assert sum("label" in case for case in whole.training) == 2 and len(whole.test) == 2
    for first, second, third in zip(whole.training, known.training, background.training, strict=True):
        if "label" not in first:
            continue
        assert "known_labels" not in first and third == {k: v for k, v in second.items() if k != "known_labels"}
        mask, half = (np.asarray(read_volume(case["label"]).array) for case in (first, second))
        assert np.array_equal(half, np.where(np.isin(mask, second["known_labels"]), mask, 0))
    assert (
        json.loads((tmp_path / "data" / "known.json").read_text())["test"]
        == json.loads((tmp_path / "data" / "dataset.json").read_text())["test"]
    )
    assert "| known_labels | dice | 0.500 | 0.500 | 2.0 | 3 |" in capsys.readouterr().out
