from __future__ import annotations

import csv
import io
import shutil

import pytest

from common.report.review_sheet import COLUMNS
from tools.watching import merged_review as module
from tools.watching.merged_review import MergedReview, as_table, read_rows, urgency

A, B, C, D = ("0" * 15 + letter for letter in "abcd")


def row(case, label, dice, look="no", **more):
    return {"case": case, "label": str(label), "predicted_dice": dice, "look": look, **more}


def write(folder, key, *rows):
    (folder / key).mkdir()
    (folder / key / "review.csv").write_text(as_table([rows]))


def cases(folder):
    return [one["case"] for one in read_rows(folder / "review.csv")]


def test_worst_first_as_in_each_scans_own_table(tmp_path):
    write(tmp_path, A, row(A, 1, "0.9"), row(A, 2, "0.3"))
    write(tmp_path, B, row(B, 1, "0.95"), row(B, 2, "0.8", "yes"))
    write(tmp_path, C, row(C, 1, "0.99"))
    write(tmp_path, D, {"case": D, "look": "yes", "why": "not segmented: a gap, of 5 mm"})
    (tmp_path / "another folder").mkdir()
    MergedReview(tmp_path).update()
    found = read_rows(tmp_path / "review.csv")
    assert [(one["case"], one["label"]) for one in found] == [(D, ""), (B, "2"), (B, "1"), (A, "2"), (A, "1"), (C, "1")]
    assert list(found[0]) == list(COLUMNS) and found[0]["why"] == "not segmented: a gap, of 5 mm"


def test_what_is_new_replaced_or_gone(tmp_path):
    review = MergedReview(tmp_path)
    review.update()
    assert cases(tmp_path) == []
    write(tmp_path, A, row(A, 1, "0.9"))
    write(tmp_path, B, row(B, 1, "0.5"))
    review.update()
    assert cases(tmp_path) == [B, A]
    (tmp_path / A).rename(tmp_path / "before")
    write(tmp_path, A, row(A, 1, "0.2"))
    review.update()
    assert cases(tmp_path) == [A, B]
    shutil.rmtree(tmp_path / A)
    review.update()
    assert cases(tmp_path) == [B]


def test_nothing_is_read_or_written_twice(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(module, "read_rows", lambda path: read.append(path.parent.name) or read_rows(path))
    review = MergedReview(tmp_path)
    write(tmp_path, A, row(A, 1, "0.9"))
    review.update()
    write(tmp_path, B, row(B, 1, "0.9"))
    review.update()
    first = (tmp_path / "review.csv").stat().st_mtime_ns
    review.update()
    assert read == [A, B] and (tmp_path / "review.csv").stat().st_mtime_ns == first


def test_while_much_is_done_it_waits_as_long_as_it_takes(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    review, written = MergedReview(tmp_path), []

    def slow(path, text):
        now[0] += 2.0
        written.append(now[0])

    monkeypatch.setattr(module, "write_atomic", slow)
    for second in range(100):
        now[0] = max(now[0], float(second))
        write(tmp_path, f"{second:016x}", row("x", 1, "0.9"))
        review.update(now=False)
    assert written == [2.0, 44.0, 86.0]  # twenty times the two seconds behind the end of each
    review.update()
    assert len(written) == 4


def test_a_result_that_comes_while_it_writes_is_seen(tmp_path, monkeypatch):
    """Two parts, one table: whoever writes last has seen all."""
    write(tmp_path, A, row(A, 1, "0.9"))
    late = []

    def meanwhile(path, text):
        if not late:
            late.append(B)
            write(tmp_path, B, row(B, 1, "0.8"))
            MergedReview(tmp_path).update()  # the other part's, whole
        return original(path, text)

    original = module.write_atomic
    monkeypatch.setattr(module, "write_atomic", meanwhile)
    MergedReview(tmp_path).update()
    assert cases(tmp_path) == [B, A]


def test_columns_of_a_later_bundle_are_kept():
    table = list(csv.DictReader(io.StringIO(as_table([[row("x", 1, "0.5", extra="1")], [row("y", 1, "0.4")]]))))
    assert [one["extra"] for one in table] == ["", "1"]


@pytest.mark.parametrize("dice", [None, "", "nan?"])
def test_what_has_no_number_comes_before_what_has(dice):
    assert urgency({"look": "no", "predicted_dice": dice}) < urgency({"look": "no", "predicted_dice": "0.0"})
