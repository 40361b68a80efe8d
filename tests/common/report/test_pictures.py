from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from common.report.pictures import Card, cards
from support.report.page import Page


def png(height: int, width: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), (200, 30, 10), np.uint8)).save(file, format="png")
    return file.getvalue()


def opened(source: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(source.partition("base64,")[2])))


def test_a_small_picture_opens_the_large_one_and_what_has_none_is_a_line():
    items = [Card("a", "odd", png(900, 600), "alt", "Dice .5", True), Card("b", "fine"), Card("c", "x", png(9, 9))]
    text = cards(items, first=4)
    page = Page(text)
    small, large = page.all("img")[:2]
    assert opened(small["src"]).size == (280, 420) and opened(large["src"]).size == (600, 900)
    assert np.abs(np.asarray(opened(large["src"])).astype(int)[5, 5] - (200, 30, 10)).max() < 5
    assert (small["alt"], large["alt"]) == ("", "alt")
    names = [a["popovertarget"] for a in page.all("button")]
    assert names == ["picture-4", "picture-4", "picture-5", "picture-5"]
    assert page.texts["summary"] == ["The other 1 scan, a line each"] and page.texts["h3"] == ["a ", "c"]
    assert [span["class"] for span in page.all("span")] == ["badge marked"]


def test_what_cannot_be_read_as_a_picture_is_kept_as_it_is():
    source = Page(cards([Card("a", "b", b"\x89PNG bytes")], 1)).all("img")[1]["src"]
    assert base64.b64decode(source.partition("base64,")[2]) == b"\x89PNG bytes"
    assert cards([Card("a", "b")], 1).count("<li>") == 1 and "1 scans" not in cards([Card("a", "b")], 1)
