from __future__ import annotations

import numpy as np
import pytest

from common.report.tables import LONG, format_seconds, format_value, plain_text, table
from support.report.page import Page


def test_cells():
    page = Page(table("t", "title", [{"case": "a", "n": 3, "Dice": 0.12345, "who": "x"}, {"case": "b", "extra": 1}]))
    assert page.texts["th"] == ["case", "n", "Dice", "who", "extra", "a", "b"]
    assert page.texts["td"] == ["3", "0.123", "x", "–", "–", "–", "–", "1"]
    assert [head.get("class") for head in page.all("th")[:5]] == [None, "number", "number", None, "number"]
    assert not page.all("details") and "<strong>title</strong>: none" in table("t", "title", [])


def test_a_number_with_a_mark_is_a_number():
    page = Page(table("t", "title", [{"case": "a", "HD95": "154.0 †"}, {"case": "b", "HD95": 3.0}]))
    assert page.all("td")[0]["class"] == "number"


def test_long_tables_are_folded_and_keep_their_caption():
    rows = [{"case": n} for n in range(LONG + 1)]
    assert not Page(table("t", "title", rows[1:])).all("details")
    page = Page(table("t", "title", rows, "a note"))
    assert page.texts["summary"] == [f"title ({LONG + 1} rows)"] and page.texts["caption"] == ["title"]
    assert page.all("caption")[0]["class"] == "unseen" and page.texts["p"] == ["a note"]


def test_plain_text_has_neither_paths_nor_control_characters_and_keeps_its_signs():
    assert plain_text("a < b\x1b & /home/joe/c.nii") == "a < b\\x1b & …/c.nii"


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (float("nan"), "–"), (0.0, "0.000"), (0.5, "0.500"), (1e-4, "0.0001"), (123456.0, "1.23e+05"),
     (7, "7"), (True, "True"), ("x", "x"), (np.float32(0.25), "0.250"), (np.int64(3), "3"), (float("inf"), "inf")],
)  # fmt: skip
def test_format_value(value, text):
    assert format_value(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.21, "4.2 s"), (59.96, "60.0 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")]
)
def test_format_seconds(seconds, text):
    assert format_seconds(seconds) == text
