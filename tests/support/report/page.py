"""A page as a browser or a screen reader takes it: tags, texts, and what has to hold for all pages."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise

VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """Tags with their attributes, and texts by the tag they stand in; fails on tags that are not closed in order."""

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

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and data.strip():
            self.texts.setdefault(self._open[-1], []).append(data)

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


def check_page(text: str) -> Page:
    """Return a page that is whole, loads nothing and can be read without a mouse or eyes; fails where it isn't."""
    page = Page(text)
    assert page.all("html")[0]["lang"] == "en" and len(page.texts["title"]) == 1 and len(page.all("h1")) == 1
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert all(below - above <= 1 for above, below in pairwise(levels)), levels
    # nothing from outside, and no program
    assert not any(page.all(tag) for tag in ("script", "link", "iframe", "object", "form"))
    assert not re.search(r"https?:|url\(\s*[\"']?(?!#)", text), "an address, or a file"
    assert not [name for _, a in page.tags for name in a if name.startswith("on")]
    assert all(image["src"].startswith("data:image/") for image in page.all("img"))
    policies = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    # what is seen is said
    small = sum("enlarge" in (button.get("class") or "") for button in page.all("button"))
    alts = [image["alt"] for image in page.all("img")]
    assert sum(not alt.strip() for alt in alts) == small  # the button says what a click on the small picture does
    assert all(a.get("aria-label") for a in page.all("svg")) and all(a["role"] == "img" for a in page.all("svg"))
    assert all(button["type"] == "button" for button in page.all("button"))
    assert len(page.texts.get("caption", [])) == len(page.all("table"))
    assert all(head["scope"] in ("col", "row") for head in page.all("th"))
    # every id is one, and what points to one has one
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(set(ids)) == len(ids)
    pointing = [link["href"].removeprefix("#") for tag in ("a", "use") for link in page.all(tag)]
    pointing += [a[name] for _, a in page.tags for name in ("aria-labelledby", "popovertarget") if name in a]
    pointing += re.findall(r"url\(#([^)]+)\)", text)
    assert set(pointing) <= set(ids), set(pointing) - set(ids)
    # nothing is wider than the window
    assert not [a for _, a in page.tags if re.fullmatch(r"\d+(px)?", str(a.get("width", "")))]
    assert not re.search(r"style=\"[^\"]*(?<!-)width:\s*\d+(px|pt|em)", text)
    return page
