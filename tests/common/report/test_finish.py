"""What every bundle's end of a run does; the bundles' own parts are tested with them."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pytest
import torch

from common.grid.grid import Grid
from common.report.finish import Finish
from common.run.manifest import RunManifest
from common.scoring.compared import Compared
from common.scoring.table import MetricsTable
from support.bundle.finish import run_finish


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


def finished(folder, scored: bool = True) -> Method:
    table = MetricsTable({1: "one", 2: "two"})
    if scored:
        for case, dice in (("a", 0.6), ("b", 0.8)):
            both = {v: {"dice": dice, "hd95": 1.0, "assd": 0.5} for v in (1, 2)}
            table.add(case, both, control_dice={1: 0.5, 2: math.nan})
    manifest = RunManifest(folder)
    grid = Grid((8, 8, 8), (1, 1, 1), (0, 1, 2))
    labels = {0: "background", 1: "one"}
    plan = SimpleNamespace(
        run=SimpleNamespace(manifest=manifest, bundle_root=folder, release=lambda: None),
        cohort=SimpleNamespace(name="cohort", scored=[1] if scored else [], grid=grid, labels=labels),
        trainers={"train": SimpleNamespace(progress=SimpleNamespace(history={"loss": [(1, 2.0)]}))},
    )
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
    for words in ("Method on cohort", "What was done.", "What it can&#x27;t.", "a control"):
        assert words in page, words


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
