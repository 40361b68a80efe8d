"""review.csv is read back as it was written, or there is one line."""

from __future__ import annotations

import pytest

from common.errors import InputError
from common.report.review_sheet import COLUMNS, ReviewSheet
from common.review.reviewed import read_review


def test_what_the_sheet_writes_is_read_back(tmp_path):
    sheet = ReviewSheet(str(tmp_path), [0, 1], {})
    row = {"label": 1, "low": 0.0, "high": 1.0, "own": 0.5, "view": 1.0, "spread": 1.0, "why": ["it, is odd"]}
    for case, dice in (("good", 0.9), ("bad, really", 0.25)):
        sheet.rows[case] = [{**row, "case": case, "name": "a", "predicted_dice": dice, "volume_ml": 2.0, "look": False}]
    (tmp_path / "review.csv").write_text(sheet.table(), encoding="utf-8")
    found = read_review(tmp_path)
    assert {case: [float(one["predicted_dice"]) for one in rows] for case, rows in found.items()} == {
        "bad, really": [0.25], "good": [0.9],
    }  # fmt: skip
    assert set(found["good"][0]) == set(COLUMNS) and found["good"][0]["why"] == "it, is odd"


def test_no_review(tmp_path):
    with pytest.raises(InputError, match=r"review\.csv: no such file; wanted a folder that inference\.json wrote"):
        read_review(tmp_path)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "no row"),
        ("case,predicted_dice,volume_ml\n", "no row"),
        ("case,label\na,1\n", "line 2 has no predicted_dice, volume_ml"),
        ("case,predicted_dice,volume_ml\na,0.5,1\nb,0.5\n", "line 3 has no volume_ml"),
        ("case,predicted_dice,volume_ml\na,good,1\n", "line 2 has good and 1 ml"),
        ("case,predicted_dice,volume_ml\na,1.5,1\n", "line 2 has 1.5 and 1 ml"),
        ("case,predicted_dice,volume_ml\na,nan,1\n", "line 2 has nan and 1 ml"),
    ],
)
def test_what_is_no_review(tmp_path, text, line):
    (tmp_path / "review.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as error:
        read_review(tmp_path)
    (said,) = error.value.problems
    assert line in said and said.endswith("wanted what inference.json wrote")


def test_what_is_no_text(tmp_path):
    (tmp_path / "review.csv").write_bytes(b"\xff\xfe\x00case")
    with pytest.raises(InputError, match=r"wanted what inference\.json wrote"):
        read_review(tmp_path)
