"""What every bundle's end of a run does; the bundles' own parts are tested with them."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pytest
import torch

from common.grid.grid import Grid
from common.report.finish import Finish
from common.review.calibration import Calibration
from common.review.knowledge import Knowledge
from common.run.manifest import RunManifest
from common.scoring.compared import Compared
from common.scoring.table import MetricsTable
from support.bundle.finish import run_finish
from support.report.page import check_page


class Method(Finish):
    title = "Method"

    def compared(self):
        return [
            Compared("control", "a control", "control_dice"),
            Compared("method", self.title, "dice"),
            Compared("gain", "gain", against="control"),
        ]

    def introduction(self):
        return "What was done."

    def limits(self):
        return ["What it can't."]


def plan_of(folder, scored: bool = True) -> SimpleNamespace:
    """Return what a Finish needs of a plan."""
    manifest = RunManifest(folder)
    grid = Grid((8, 8, 8), (1, 1, 1), (0, 1, 2))
    labels = {0: "background", 1: "one"}
    return SimpleNamespace(
        run=SimpleNamespace(manifest=manifest, bundle_root=folder, release=lambda: None),
        cohort=SimpleNamespace(name="cohort", scored=[1] if scored else [], grid=grid, labels=labels),
        trainers={"train": SimpleNamespace(progress=SimpleNamespace(history={"loss": [(1, 2.0)]}))},
    )


def finished(folder, scored: bool = True) -> Method:
    table = MetricsTable({1: "one", 2: "two"})
    if scored:
        for case, dice in (("a", 0.6), ("b", 0.8)):
            both = {v: {"dice": dice, "hd95": 1.0, "assd": 0.5} for v in (1, 2)}
            table.add(case, both, control_dice={1: 0.5, 2: math.nan})
    plan = plan_of(folder, scored)
    manifest = plan.run.manifest
    method = run_finish(Method, plan, table, folder)
    assert list(manifest.stages) == (["evaluate"] if scored else [])
    return method


def test_compared_columns_stand_in_run_json_the_printed_table_and_the_report(tmp_path, capsys):
    method = finished(tmp_path)
    dice = method.manifest.results["dice"]
    assert dice["one"] == {"control": 0.5, "method": pytest.approx(0.7)}
    assert math.isnan(dice["two"]["control"]) and dice["overall"]["method"] == pytest.approx(0.7)
    said = capsys.readouterr().out
    assert "mean of 2 cases" in said and "+0.200" in said and "a control" in said
    two = next(line for line in said.splitlines() if "two" in line)
    assert two.count("–") == 2  # no such number, and no difference from it
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert [row["under .70"] for row in method.rows()] == ["50 %"] * 3 and "under .70" in said and "50 %" in said
    for words in (
        "Method on cohort",
        "in which Method has a Dice under 0.70",
        '<td class="number">50 %</td>',
        "What was done.",
        "What it can&#x27;t.",
        "a control",
        "Mean Dice .70, worst scan .60 (a), 1 of 2 scans under .70. None of these scans was learnt from.",
        "Only 2 scans were scored",
    ):
        assert words in page, words
    assert [summary for summary in check_page(page).texts["summary"] if "2 scans" in summary] == [
        "2 scans, a line each"  # none was drawn
    ]


def test_the_bundle_is_named_as_its_metadata_does_whatever_its_folder_is_called(tmp_path):
    assert finished(tmp_path).manifest.results["bundle"] is None  # a bundle of one's own without metadata.json
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "metadata.json").write_text(json.dumps({"name": "one of ours"}))
    assert finished(tmp_path).manifest.results["bundle"] == "one of ours"
    (tmp_path / "configs" / "metadata.json").write_text("{")
    assert finished(tmp_path).manifest.results["bundle"] is None  # what was trained is kept all the same


def test_labels_that_metadata_names_otherwise_are_told(tmp_path, capsys):
    method = finished(tmp_path)
    assert "labels:" not in capsys.readouterr().out
    content = {"network_data_format": {"outputs": {"pred": {"channel_def": {"0": "background", "1": "two"}}}}}
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "metadata.json").write_text(json.dumps(content))
    method.run()
    assert "labels: the model's labels are background, one, configs/metadata.json" in capsys.readouterr().out


def test_nothing_to_score_is_said_and_the_model_is_written_all_the_same(tmp_path, capsys):
    method = finished(tmp_path, scored=False)
    assert method.manifest.results["dice"] == {} and "no case with a label to score" in capsys.readouterr().out
    first = torch.load(tmp_path / "model.pt", weights_only=True)
    finished(tmp_path, scored=False)
    kept = torch.load(tmp_path / "model.previous.pt", weights_only=True)
    assert all(torch.equal(kept[name], first[name]) for name in first)


def verdict_of(gain: float, cases: int = 8, control: str = "serve it", to_compare: str = ""):
    """Return a Finish with one control, and the scores of a method of that gain over it."""
    kind = type("Judged", (Method,), {
        "to_compare": to_compare,
        "compared": lambda self: [
            Compared("method", self.title, "dice"), Compared("plain", "plain UNet", "other dice", control=control)
        ],
    })  # fmt: skip
    table = MetricsTable({1: "one"})
    for number in range(cases):
        scores = {"dice": 0.5 + gain + 0.001 * number, "hd95": 1.0, "assd": 0.5}
        table.add(str(number), {1: scores}, **{"other dice": {1: 0.5}})
    return kind, table


@pytest.mark.parametrize(("gain", "word"), [(0.1, "verdict: Method"), (-0.1, "warning: Method")])
def test_a_run_ends_with_a_verdict_on_the_control(tmp_path, capsys, gain, word):
    kind, table = verdict_of(gain)
    method = run_finish(kind, plan_of(tmp_path), table, tmp_path)
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith(("verdict", "warning")))
    assert line.startswith(word) and ("serve it" in line) == (gain < 0)
    (kept,) = method.manifest.results["verdicts"]
    assert kept["verdict"] == ("better" if gain > 0 else "below") and kept["cases"] == 8 and kept["text"] in line
    page = check_page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert kept["text"] in page.texts["dd"] and page.texts["dt"][0].strip() == "Better than plain UNet?"


def test_the_model_is_looked_at_before_the_report_which_shows_how_far_its_probabilities_come_true(tmp_path):
    method = finished(tmp_path)
    assert "own certainty" not in (tmp_path / "report.html").read_text(encoding="utf-8")
    bins = {1: [(0.9, 0.6, 10)]}, {1: [(0.7, 0.6, 10)]}
    known = Knowledge(calibration=Calibration(2.0, 2.0, 5, (0.4, 0.3), *bins))
    method.review_learning = SimpleNamespace(run=lambda: known.save(tmp_path / "model.pt"))
    method.run()
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "own certainty" in page and '<td class="number">0.300</td><td class="number">0.100</td>' in page


def test_what_is_no_control_is_not_judged_and_how_to_get_one_is_said(tmp_path, capsys):
    kind, table = verdict_of(-0.1, control="", to_compare="train one")
    method = run_finish(kind, plan_of(tmp_path), table, tmp_path)
    assert method.manifest.results["verdicts"] == [] and "verdict: none: train one" in capsys.readouterr().out
    run_finish(kind, plan_of(tmp_path), MetricsTable({1: "one"}), tmp_path)
    assert "verdict" not in capsys.readouterr().out  # no case to score by
