from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import torch

from common.control.verdict import judge
from common.report.page import Report
from common.report.scored import Scored, compared_answers, readable
from common.report.tables import mean
from common.scoring.compared import Compared
from common.scoring.oddities import compare
from common.scoring.table import MetricsTable
from support.report.page import check_page

NAMES = {0: "background", 1: "liver", 2: "spleen"}
CONTROL = Compared("plain", "a plain UNet", "plain dice", control="use it")
DICE = {"b": (0.9, 0.8), "c": (math.nan, math.nan), "a": (0.5, 0.0), "d": (0.95, math.nan)}


def scored(pictures=(), dice=DICE) -> Scored:
    table = MetricsTable(NAMES)
    for case, numbers in dice.items():
        metrics = {v: {"dice": d, "hd95": 77.0 if d == 0 else 3.0, "assd": 77.0 if d == 0 else 1.0}
                   for v, d in zip((1, 2), numbers, strict=True)}  # fmt: skip
        table.add(case, metrics, **{"plain dice": {1: 0.6, 2: 0.7}})
    label = np.zeros((6, 6, 6), int)
    label[1:4, 1:4, 1:4] = 1
    odd = compare(torch.zeros(6, 6, 6), torch.tensor(label), np.eye(4), [1, 2])
    gallery = SimpleNamespace(pictures=dict(pictures), oddities={"a": odd}, maps={"prediction": "pred"})
    return Scored(table, [Compared("method", "Method", "dice"), CONTROL], gallery)


def test_scans_stand_worst_first_with_a_line_each(tmp_path):
    one = scored({"a": b"png"})
    assert list(one.case_dice()) == ["a", "b", "d", "c"] and one.case_dice()["d"] == 0.95
    page = Report("x", tmp_path)
    one.add_cases(page)
    seen = check_page(page.write().read_text(encoding="utf-8"))
    assert seen.texts["h3"] == ["a "] and "liver: not found (0.0 ml)" in seen.texts["p"][-4] + seen.texts["p"][2]
    assert [strong for strong in seen.texts["strong"] if strong != "a"] == ["b", "d", "c"]
    assert seen.texts["span"] == ["Dice .25", "Dice .85", "best, Dice .95", "not scored"]


def test_what_was_not_measured_is_marked_as_such(tmp_path):
    one, page = scored(), Report("x", tmp_path)
    one.add_numbers(page)
    text = page.write().read_text(encoding="utf-8")
    assert text.count("77.0 †") == 2 and "† Not measured" in text
    row = {"case": "a", "label": 2, "name": "n", "dice": 0.5, "hd95": 3.0, "assd": 1.0, "auc_of_it": 7.8e-5}
    wanted = {"case": "a", "structure": "n", "Dice": 0.5, "HD95 (mm)": 3.0, "mean distance (mm)": 1.0, "auc of it": 0.0}
    assert readable(row, {}) == wanted
    one, page = scored(dice={"a": (0.5, 0.5)}), Report("x", tmp_path)
    one.add_numbers(page)
    assert "†" not in page.write().read_text(encoding="utf-8")


def test_the_plot_has_a_dot_for_each_scan_of_the_method_and_its_control(tmp_path):
    one, page = scored(), Report("x", tmp_path)
    one.add_structures(page)
    (plot,) = check_page(page.write().read_text(encoding="utf-8")).all("svg")
    assert "Means of Method: liver 0.783, spleen 0.400" in plot["aria-label"]
    assert one.label_dice("plain dice") == {"liver": [0.6] * 4, "spleen": [0.7] * 4}


def test_a_verdict_comes_first_and_without_scores_there_is_none(tmp_path):
    one, page = scored(), Report("x", tmp_path)
    one.add_verdict(page, judge(one.rows, "Method", [CONTROL]), "")
    seen = check_page(page.write().read_text(encoding="utf-8"))
    assert seen.texts["dt"][0].strip() == "Better than a plain UNet?"
    nothing, page = Scored(MetricsTable(NAMES), one.columns, one.gallery), Report("x", tmp_path)
    nothing.add_verdict(page, [], "train one")
    seen = check_page(page.write().read_text(encoding="utf-8"))
    assert "nothing here says how good" in seen.texts["p"][1] and not [
        a for a in seen.all("dl") if a["class"] == "verdict"
    ]


def test_how_to_get_a_control_is_said_where_there_is_none():
    assert compared_answers([], "") == []
    (answer,) = compared_answers([], "train one")
    assert answer.word == "not compared" and "train one" in answer.text
    assert math.isnan(mean([])) and mean([1.0, 2.0]) == 1.5
