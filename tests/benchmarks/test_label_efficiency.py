"""Every row gets what it may see and no more, and what is drawn is priced by hand."""

from __future__ import annotations

import json

import pytest

from benchmarks import label_efficiency
from common.data.datalist import read_datalist
from common.data.selection import few_labeled
from tools.advising.annotation import Prices


@pytest.fixture
def runs(monkeypatch):
    """Stand for training: note what each run was told."""
    told = []

    def run_bundle(arguments):
        told.append((arguments.bundle, list(arguments.set)))
        dice = 0.5 + 0.1 * len(told)
        rows = [
            {"case": "a", "label": 1, "name": "organ", "dice": dice, "plain dice": 0.25},
            {"case": "b", "label": 1, "name": "organ", "dice": dice + 0.2, "plain dice": 0.75},
        ]
        return {"row": arguments.bundle, "cpu_seconds": 12.0, "rows": rows}

    monkeypatch.setattr(label_efficiency, "run_bundle", run_bundle)
    return told


def run(cohort, work, rows):
    label_efficiency.main(["run", str(cohort), "--work", str(work), "--rows", rows, "--draw", "2"])


def test_each_row_is_told_what_it_learns_from(tiny_cohort, tmp_path, runs, capsys):
    run(tiny_cohort, tmp_path, "rrl_medsam:1,semisam_plus:2,ada_sam:5,weakmedsam:0")
    content = read_datalist(tiny_cohort)
    drawn = [case["case"] for case in few_labeled(content, 2, 2)[0]]
    bits, slices = (str((tmp_path / file).absolute()) for file in ("bits.json", "bits_and_masks.json"))
    assert runs == [
        ("rrl_medsam", ["seed=2", f"atlas={drawn[0]}"]),
        ("semisam_plus", ["seed=2", f"labeled={','.join(drawn)}"]),
        ("ada_sam", ["seed=2", f"datalist={slices}", "num_label_slices=5"]),
        ("weakmedsam", ["seed=2", f"datalist={bits}"]),
    ]
    assert not any("label" in entry for entry in json.loads((tmp_path / "bits.json").read_text())["training"])
    run(tiny_cohort, tmp_path, "rrl_medsam:1")
    assert len(runs) == 4  # what is there is not run again


def test_the_table_prices_what_was_drawn_and_a_plain_unet_is_a_row(tiny_cohort, tmp_path, runs, capsys):
    run(tiny_cohort, tmp_path, "semisam_plus:2,weakmedsam:0")
    capsys.readouterr()
    written = tmp_path / "measured.json"
    label_efficiency.main(["table", str(tmp_path), "--minutes_per_volume", "50", "--json", str(written)])
    shown = capsys.readouterr().out
    content = read_datalist(tiny_cohort)
    structures = len(content.labels) - 1
    slices = 5 * 32
    entries = {entry["row"]: entry for entry in json.loads(written.read_text())}
    assert entries["semisam_plus"]["dice"] == pytest.approx(0.7) and entries["semisam_plus"]["under"] == 0.5
    assert entries["plain UNet"]["dice"] == pytest.approx(0.5)
    assert abs(entries["weakmedsam"]["annotation"]["bits"] - slices) < 0.3 * slices
    found = label_efficiency.options(entries.values(), Prices(volume=50, bit=0))
    assert {option.row: option.minutes for option in found}["semisam_plus"] == 2 * 50 * structures
    assert "| 2 volumes | semisam_plus | 0.700 | 0.700 |" in shown


def test_draws_are_averaged_and_the_worst_is_said():
    def result(draw, dice):
        rows = [{"case": "a", "label": 1, "dice": dice}]
        return {"row": "x", "dataset": "d", "structures": 1, "annotation": {"volumes": 1}, "draw": draw,
                "rows": rows, "cpu_seconds": 10.0 * (draw + 1)}  # fmt: skip

    (entry,) = label_efficiency.summarised([result(0, 0.5), result(1, 0.8)])
    assert entry["draws"] == 2 and entry["dice"] == pytest.approx(0.65) and entry["worst_draw"] == 0.5
    assert entry["cpu_seconds"] == 15 and entry["under"] == 0.5


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="found no result"):
        label_efficiency.main(["table", str(tmp_path)])
