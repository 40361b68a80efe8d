from __future__ import annotations

import json

import numpy as np
import pytest

from common.control.good_enough import BAD, GOOD, PARTLY, Answer
from common.report.overlay import overlay_png
from common.report.page import (
    CASES,
    CERTAINTY,
    COST,
    CURVES,
    LABELS,
    LIMITS,
    NUMBERS,
    STRUCTURES,
    SUMMARY,
    WORDS,
    Report,
)
from common.report.pictures import Card
from common.report.plots import INK, draw_strips
from common.run.manifest import RunManifest
from support.report.browser import measured
from support.report.page import Page, check_page


def _picture() -> bytes:
    label = np.zeros((8, 8, 8), dtype=int)
    label[2:5, 2:5, 2:5] = 1
    return overlay_png(np.arange(512.0).reshape(8, 8, 8), {"pred": label, "truth": label}, {1: "organ"})


def _report(folder, long: str = "") -> Report:
    manifest = RunManifest(folder, {"a": 1}, seed=3)
    with manifest.stage("train"):
        pass
    report = Report(f"A run {long}", folder)
    report.add_costs(manifest)
    answers = [Answer(f"Good {long}?", word, word, "Because.") for word in (GOOD, PARTLY, BAD)]
    report.add_verdict(f"Mean Dice .71 {long}", answers)
    rows = [{"case": f"a {long}", "Dice": 0.5, long or "more": 1.0}, {"case": "b", "Dice": float("nan"), "note": None}]
    report.add_table("Test cases", rows, section=STRUCTURES)
    report.add_table("All cases", rows * 9)
    report.add_curves("Losses", {"loss": [(1, 1.0), (2, 0.25)], long or "other": [(1, 2.0)]})
    draw, size = draw_strips({long or "organ": {"method": [0.5, 0.7]}}, "Dice", 0.7)
    report.add_plot("Dice", draw, "Mean .6.", STRUCTURES, size)
    report.add_cards(
        [Card("case a", f"odd {long}", _picture(), badge="Dice .5", marked=True), Card("b", "nothing odd")]
    )
    report.add_cards([Card("case c", "of the training", _picture())], LABELS)
    report.add_text("First.\n\nSecond.", SUMMARY)
    report.add_text(["one", "two"], LIMITS)
    report.add_text("Why.", CASES, fold="The rule")
    return report


def test_page_is_whole_loads_nothing_and_is_accessible(tmp_path):
    path = _report(tmp_path).write()
    assert path == tmp_path / "report.html"
    page = check_page(path.read_text(encoding="utf-8"))
    assert page.texts["title"][0].strip() == "A run"
    assert page.texts["summary"][:2] == ["The other 1 scan, a line each", "The rule"]
    assert "All cases (18 rows)" in page.texts["summary"] and "Test cases (2 rows)" not in page.texts["summary"]
    assert [word for word in page.texts["span"] if word in (GOOD, PARTLY, BAD)] == [GOOD, PARTLY, BAD]
    assert len(page.all("img")) == 4 and len([a for _, a in page.tags if "popover" in a]) == 2
    assert page.texts["p"][1] == "Mean Dice .71 "  # before anything else but the warning


def test_sections_stand_in_order_whatever_came_first(tmp_path):
    report = _report(tmp_path)
    report.add_text("x", "Something else")
    report.add_plot("Reliability", lambda axis: axis.plot([0, 1], [0, 1], color=INK), "On the line.", CERTAINTY)
    wanted = [SUMMARY, CASES, STRUCTURES, CERTAINTY, LABELS, CURVES, NUMBERS, COST, "Something else", WORDS, LIMITS]
    assert Page(report.write().read_text(encoding="utf-8")).texts["h2"] == wanted
    assert Page(report.write().read_text(encoding="utf-8")).texts["h2"] == wanted  # writing twice adds nothing


def test_everything_is_escaped(tmp_path):
    evil = "<script>alert(1)</script>\"'& $x$"
    report = Report(evil, tmp_path)
    report.add_verdict(evil, [Answer(evil, evil, GOOD, evil)])
    report.add_text(evil)
    report.add_text([evil], fold=evil)
    report.add_text(evil, section=evil)
    report.add_table(evil, [{evil: evil, "b": evil}], evil)
    report.add_table(evil, [])
    report.add_curves(evil, {evil: [(1, 1.0)]}, step_name=evil)
    report.add_cards([Card(evil, evil, b"png", evil, evil), Card(evil, evil, badge=evil)])
    text = report.write().read_text(encoding="utf-8")
    assert "<script" not in text and Page(text).all("script") == []
    assert evil in [image["alt"] for image in Page(text).all("img")]
    assert evil in Page(text).texts["text"]


def test_no_absolute_path_gets_in(tmp_path):
    report = Report("run", tmp_path)
    report.add_text("saved to /home/joe/models/model.pt")
    report.add_table("files", [{"case": "/home/joe/scans/a b.nii.gz"}])
    report.add_curves("curve", {"/home/joe/loss": [(1, 1.0)]})
    text = report.write().read_text(encoding="utf-8")
    assert "joe" not in text and "…/model.pt" in text and "…/a b.nii.gz" in text


@pytest.mark.parametrize("width", [1200, 800, 500])
def test_nothing_is_cut_off_in_a_browser_and_a_click_enlarges(tmp_path, width):
    page = _report(tmp_path, "left_and_right_pulmonary_vein_of_the_upper_lobe " * 3).write()
    found = json.loads(measured(page, width, tmp_path))
    assert found["wide"] <= found["view"] and not found["out"] and not found["over"]
    assert found["open"] == f"{found['view']} Close"  # over the whole window, and the keyboard is on its button
