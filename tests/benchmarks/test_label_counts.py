"""Both bundles get the same labelled cases, and what is there is not run again."""

from __future__ import annotations

import json

import pytest

from benchmarks import label_counts
from common.data.datalist import read_datalist
from common.data.selection import few_labeled


@pytest.fixture
def runs(monkeypatch):
    """Stand for training: note what each run was told."""
    told = []

    def run_bundle(arguments):
        told.append((arguments.bundle, arguments.set))
        rows = [
            {"case": "a", "label": 1, "name": "organ", "dice": 0.5, "label propagation dice": 0.25, "hd95": 3.0},
            {"case": "b", "label": 1, "name": "organ", "dice": 0.75, "label propagation dice": 0.5, "hd95": 1.0},
        ]
        return {"row": arguments.bundle, "cpu_seconds": 12.0, "rows": rows}

    monkeypatch.setattr(label_counts, "run_bundle", run_bundle)
    return told


def test_both_bundles_learn_from_the_same_nested_draws(tiny_cohort, tmp_path, runs, capsys):
    words = ["--dataset", str(tiny_cohort), "--work", str(tmp_path), "--labels", "1,2", "--draw", "3"]
    label_counts.main([*words, "--set", "epochs=1", "--set", "semisam_plus:generalist=null"])
    drawn = [case["case"] for case in few_labeled(read_datalist(tiny_cohort), 2, 3)[0]]
    assert runs == [
        ("semisam_plus", [f"labeled={drawn[0]}", "seed=3", "epochs=1", "generalist=null"]),
        ("rrl_medsam", [f"atlas={drawn[0]}", "seed=3", "epochs=1"]),
        ("semisam_plus", [f"labeled={','.join(drawn)}", "seed=3", "epochs=1", "generalist=null"]),
        ("rrl_medsam", [f"atlas={','.join(drawn)}", "seed=3", "epochs=1"]),
    ]
    shown = capsys.readouterr().out.splitlines()
    assert shown[-2] == "| 2 | **rrl_medsam** | 0.625 | 0.500 | 2.0 | 12 |"
    assert shown[-1] == "| 2 | rrl_medsam: label propagation dice | 0.375 | 0.250 |  |  |"


def test_a_run_that_is_there_is_read(tiny_cohort, tmp_path, runs):
    words = ["--dataset", str(tiny_cohort), "--work", str(tmp_path), "--labels", "1"]
    label_counts.main(words)
    label_counts.main(words)
    assert len(runs) == 2
    assert json.loads((tmp_path / "rrl_medsam_1_draw_0" / "result.json").read_text())["cpu_seconds"] == 12.0
