"""Names that a stranger's dataset.json gives to labels, cases and files, where they are printed."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from common.errors import printable
from common.report.page import Report
from common.scoring.table import MetricsTable
from support.data.written_datalist import LABELS, problems_of

FORGED = ["liver\x1b[2K\rerror: none", "liver\nwarning: none", "liver\u202egnp.", "liver\x9b1A", "[/]liver[bold]"]


@pytest.mark.parametrize("name", FORGED)
def test_problems_of_a_datalist_are_printable_lines(tmp_path, name):
    cases = [{"image": f"imagesTr/{name}.nii.gz", "label": f"labelsTr/{name}.nii.gz"}, {name: 1}, name]
    problems = problems_of(tmp_path, {"labels": {"0": "background", name: name}, "training": cases, name: 1})
    problems += problems_of(tmp_path, {"labels": LABELS, "training": cases, "test": [f"../{name}"]})
    assert len(problems) > 3 and all(line.isprintable() for line in problems)
    assert any(printable(name).split("/")[-1] in line for line in problems)


@pytest.mark.parametrize("name", FORGED)
def test_tables_and_pages_show_names_as_text(tmp_path, name):
    table = MetricsTable({1: name})
    table.add(name, {1: {"dice": 0.5, "hd95": 1.0, "assd": 1.0}})
    table.skip(name)
    written = io.StringIO()
    table.print(Console(file=written, width=200))
    lines = written.getvalue().splitlines()
    assert all(line.isprintable() for line in lines)
    assert sum(printable(name) in line for line in lines) == 2
    page = Report(name, tmp_path)
    page.add_table(name, table.rows)
    page.add_text([name])
    text = page.write().read_text(encoding="utf-8")
    assert not set(text) & set("\x1b\r\x9b\u202e") and "liver" in text
