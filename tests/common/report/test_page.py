from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from common.report.overlay import overlay_png
from common.report.page import CASES, COST, LABELS, LIMITS, SUMMARY, Report, format_seconds, format_value
from common.run.manifest import RunManifest

VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """Tags with their attributes, texts of headings and cells; fails on tags that are not closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and data.strip():
            self.texts.setdefault(self._open[-1], []).append(data)

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


def _report(folder) -> Report:
    manifest = RunManifest(folder, {"a": 1}, seed=3)
    with manifest.stage("train"):
        pass
    report = Report("A run", folder)
    report.add_costs(manifest)
    report.add_table("Test cases", [{"case": "a", "Dice": 0.5}, {"case": "b", "Dice": float("nan"), "note": None}])
    report.add_curves("Losses", {"loss": [(1, 1.0), (2, 0.25)]})
    label = np.zeros((8, 8, 8), dtype=int)
    label[2:5, 2:5, 2:5] = 1
    report.add_overlay("case a", overlay_png(np.arange(512.0).reshape(8, 8, 8), {"pred": label}, {1: "organ"}))
    report.add_text("First.\n\nSecond.", SUMMARY)
    report.add_text(["one", "two"], LIMITS)
    return report


def test_page_is_whole_loads_nothing_and_is_accessible(tmp_path):
    path = _report(tmp_path).write()
    assert path == tmp_path / "report.html"
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.all("html")[0]["lang"] == "en" and page.texts["title"] == ["A run"]
    assert not page.all("script") and not page.all("link") and not page.all("iframe")
    sources = [image["src"] for image in page.all("img")]
    assert len(sources) == 3 and all(source.startswith("data:image/") for source in sources)
    assert all(image["alt"].strip() for image in page.all("img"))
    assert not re.search(r"(?:src|href|url)\s*[=(]\s*[\"']?(?:https?:|//)", text)
    assert all(head["scope"] in ("col", "row") for head in page.all("th"))
    assert len(page.texts["caption"]) == len(page.all("table")) == 3
    targets = {attributes.get("id") for _, attributes in page.tags}
    assert all(link["href"].removeprefix("#") in targets for link in page.all("a"))
    named = [a["aria-labelledby"] for _, a in page.tags if "aria-labelledby" in a]
    assert set(named) <= targets and len(set(named)) == len(named)
    policies = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policies[0]


def test_sections_stand_in_order_whatever_came_first(tmp_path):
    report = _report(tmp_path)
    report.add_text("x", "Something else")
    wanted = [SUMMARY, LABELS, CASES, "Curves", COST, "Something else", LIMITS]
    assert Page(report.write().read_text(encoding="utf-8")).texts["h2"] == wanted
    assert Page(report.write().read_text(encoding="utf-8")).texts["h2"] == wanted  # writing twice adds nothing


def test_everything_is_escaped(tmp_path):
    evil = "<script>alert(1)</script>\"'&"
    report = Report(evil, tmp_path)
    report.add_text(evil)
    report.add_text([evil])
    report.add_text(evil, section=evil)
    report.add_table(evil, [{evil: evil, "b": evil}], evil)
    report.add_table(evil, [])
    report.add_curves(evil, {evil: [(1, 1.0)]}, step_name=evil)
    report.add_overlay(evil, b"png", alt=evil)
    text = report.write().read_text(encoding="utf-8")
    assert "<script" not in text and Page(text).all("script") == []
    assert evil in [image["alt"] for image in Page(text).all("img")]


def test_no_absolute_path_gets_in(tmp_path):
    report = Report("run", tmp_path)
    report.add_text("saved to /home/joe/models/model.pt")
    report.add_table("files", [{"case": "/home/joe/scans/a b.nii.gz"}])
    text = report.write().read_text(encoding="utf-8")
    assert "joe" not in text and "…/model.pt" in text and "…/a b.nii.gz" in text


def test_table_cells(tmp_path):
    report = Report("run", tmp_path)
    report.add_table("t", [{"case": "a", "n": 3, "Dice": 0.12345, "who": "x"}, {"case": "b", "extra": 1}])
    page = Page(report.write().read_text(encoding="utf-8"))
    assert page.texts["th"] == ["case", "n", "Dice", "who", "extra", "a", "b"]
    assert page.texts["td"] == ["3", "0.123", "x", "–", "–", "–", "–", "1"]
    assert [head.get("class") for head in page.all("th")[:5]] == [None, "number", "number", None, "number"]


def test_pictures_come_back_as_they_were(tmp_path):
    report = Report("run", tmp_path)
    report.add_overlay("c", b"\x89PNG bytes")
    source = Page(report.write().read_text(encoding="utf-8")).all("img")[0]["src"]
    assert base64.b64decode(source.partition("base64,")[2]) == b"\x89PNG bytes"


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
