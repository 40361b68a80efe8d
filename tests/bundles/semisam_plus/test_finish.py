"""What the table and the report of SemiSAM+ say; that they stand in a run is tested with the bundle."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from common.grid.grid import Grid
from common.run.run import Run
from common.scoring.table import MetricsTable
from support.bundle.finish import run_finish
from support.bundle.path import import_bundle

Finish = import_bundle("semisam_plus", "finish").Finish
methods = import_bundle("semisam_plus", "methods.registry")
WEIGHTS = {"case_1": 1.0, "case_2": 0.0}


def finished(
    folder, names=("mobile_sam",), answered=("case_1", "case_2"), scored=True, silenced=(), registered=None, taught=()
) -> Finish:
    table = MetricsTable({1: "organ"})
    if scored:
        given = {"cleaned dice": {1: 0.7}}
        given |= {f"{name} box dice": {1: 0.5} for name in names if name not in silenced}
        table.add("case_9", {1: {"dice": 0.8, "hd95": 1.0, "assd": 1.0}}, **given)
    cohort = SimpleNamespace(
        name="cohort",
        labels={0: "background", 1: "organ"},
        labeled=[{"case": "case_0"}],
        unlabeled=[{"case": "case_1"}, {"case": "case_2"}],
        scored=[1] if scored else [],
        grid=Grid((8, 8, 8), (1, 1, 1), (0, 1)),
    )
    panel = SimpleNamespace(
        names=list(names),
        compared={f"{name} box": None for name in names if name not in silenced},
        teachers=[name for name in names if name not in silenced],
    )
    lines = [{"generalist": name, "mean gain": -0.05, "teaches": name not in silenced} for name in names]
    answer = torch.zeros(2, 8, 8, 8)
    answer[1, 2:6, 2:6, 2:6] = 1
    answers = SimpleNamespace(
        cohort=cohort,
        panel=panel,
        answered=list(answered),
        images=[{"case": case, "image": torch.rand(1, 8, 8, 8)} for case in ("case_0", "case_1", "case_2")],
        judgement=lambda c: {"weight": WEIGHTS[c], "agreement": WEIGHTS[c], "disagreement": 0.01, "mutual": 0.9},
        load=lambda case: {"answer": answer},
    )
    trainer = SimpleNamespace(objective=methods.find_method("ua_mt"), progress=SimpleNamespace(history={}))
    plan = SimpleNamespace(
        run=Run(*[str(folder)] * 4),
        cohort=cohort,
        answers=answers,
        trial=SimpleNamespace(rows=lines, summary=lambda: lines),
        registered=SimpleNamespace(on=registered is not None, selected=registered),
        pseudo_labels=SimpleNamespace(
            self_training=bool(taught), selected=list(taught), joined=None if registered is None else len(taught) > 1
        ),
        trainers={"train": trainer},
    )
    return run_finish(Finish, plan, table, folder)


def test_generalist_stands_beside_the_specialist_and_its_control(tmp_path):
    finish = finished(tmp_path)
    dice = finish.manifest.results["dice"]["organ"]
    assert dice == {"method": 0.8, "cleaned": 0.7, "mobile_sam box": 0.5}
    named = ["label", "SemiSAM+ (UA-MT)", "under .70", "the same, cleaned", "mobile_sam box"]
    assert list(finish.rows()[0]) == named
    assert finish.manifest.results["learnt_from"] == 1
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for words in (
        "1 of 2 cases passed the gate",
        "The last answers of the generalists",
        "most agreement",
        "least agreement",
    ):
        assert words in page, words
    assert "agreement of the generalists" not in page and "never in prediction" in page


def test_two_generalists_are_compared_with_each_other(tmp_path):
    finished(tmp_path, names=("mobile_sam", "lite_medsam"), answered=("case_1",))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "agreement of the generalists" in page and "mobile_sam and lite_medsam" in page


@pytest.mark.parametrize("scored", [True, False])
def test_base_method_alone_is_called_by_its_name(tmp_path, scored, capsys):
    finish = finished(tmp_path, names=(), answered=(), scored=scored)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert finish.title == "UA-MT" and "UA-MT on cohort" in page and "No generalist taught" in page
    assert "SemiSAM+" not in page and "answers of the generalists" not in page
    assert ("no case with a label to score" in capsys.readouterr().out) == (not scored)


def test_base_method_is_what_is_left_where_the_generalist_is_silenced(tmp_path):
    finish = finished(tmp_path, answered=(), silenced=("mobile_sam",))
    assert list(finish.rows()[0]) == ["label", "UA-MT", "under .70", "the same, cleaned"]
    assert finish.manifest.results["teachers"] == []
    assert finish.manifest.results["dice"]["organ"] == {"method": 0.8, "cleaned": 0.7}
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for words in ("mobile_sam was refused", "-0.050", "Trial of the generalists", "No generalist taught"):
        assert words in page, words
    assert page.count("refused") == 1 and "mobile_sam box" not in page and "columns of the generalists" not in page


def test_who_is_refused_beside_one_that_teaches_has_no_column(tmp_path):
    finish = finished(tmp_path, names=("mobile_sam", "lite_medsam"), silenced=("mobile_sam",))
    named = ["label", "SemiSAM+ (UA-MT)", "under .70", "the same, cleaned", "lite_medsam box"]
    assert list(finish.rows()[0]) == named
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "The last answers of lite_medsam on 1 of 2" in page and "agreement of the generalists" not in page
    assert "mobile_sam box" not in page and page.count("mobile_sam was refused") == 1


def test_labels_from_registration_are_said_where_they_are_learnt_from(tmp_path):
    done = finished(tmp_path / "on", names=(), answered=(), registered=["case_2"])
    assert done.results()["registered"] == 1 and "labels that 1 of these got" in done.introduction()
    assert any("beside labels from registration" in line for line in done.limits())
    both = finished(tmp_path / "both", names=(), answered=(), registered=["case_2"], taught=["case_1", "case_2"])
    assert both.results()["registered"] == 1 and both.results()["self_training"] == 2
    assert "these 2 labels, those from registration joined with them, were" in both.introduction()
    assert any("labels of a first network and labels from registration" in line for line in both.limits())
    weak = finished(tmp_path / "weak", names=(), answered=(), registered=["case_2"], taught=["case_2"])
    assert weak.results()["self_training"] == 0 and "labels that 1 of these got" in weak.introduction()
    off = finished(tmp_path / "off", names=(), answered=())
    assert "registered" not in off.results() and "registration" not in off.introduction() + "".join(off.limits())
