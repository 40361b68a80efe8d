"""Whether a file is what its name says: text that is text, a picture that is one, a page that runs nothing."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from html.parser import HTMLParser

from .findings import Finding
from .models.pickles import executed_names

PAGES = (".html", ".htm", ".md")
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"\0\0\0\0IEND\xaeB`\x82"
_CONTROL = re.compile(r"[\0-\x08\x0e-\x1f\x7f]")
# what a page needs to show text, tables and pictures
_TAGS = frozenset(
    "html head meta title style body header footer main nav section article div span p a b i em strong small code pre "
    "h1 h2 h3 h4 h5 h6 ul ol li dl dt dd table caption colgroup col thead tbody tfoot tr th td figure figcaption img "
    "br hr sub sup kbd details summary abbr time mark".split()
)
_ADDRESSES = frozenset("href src srcset action formaction poster background data ping cite xlink:href".split())
_LOADS = re.compile(r"@\s*import|url\s*\(|expression\s*\(|\\", re.IGNORECASE)  # in CSS; \ could spell any of them


def judge_content(path: str, content: bytes) -> Iterator[Finding]:
    """Yield what speaks against a file that is neither a model nor a program, whatever reads it later."""
    lower = path.lower()
    names = executed_names(content)
    if names or zipfile.is_zipfile(io.BytesIO(content)):
        yield Finding("file", path, f"pickle: {', '.join(names)}" if names else "archive", "under a harmless name")
    if lower.endswith(".png"):
        if not (content.startswith(_PNG_START) and content.endswith(_PNG_END)):
            yield Finding("file", path, f"{len(content)} bytes", "no PNG picture, or more than one")
        return
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        yield Finding("file", path, "encoding", "no UTF-8")
        return
    if found := _CONTROL.search(text):
        yield Finding("file", path, repr(found.group()), "no plain text")
    if lower.endswith(PAGES):
        page = _Page(whole=not lower.endswith(".md"))
        page.feed(text)
        page.close()
        for what in dict.fromkeys(page.found):
            yield Finding("page", path, what, "runs or loads something where it is shown")


class _Page(HTMLParser):
    """Collect what a browser could run or load; of a page of HTML also every tag and comment that isn't known."""

    def __init__(self, whole: bool) -> None:
        super().__init__(convert_charrefs=True)
        self.whole = whole
        self.found: list[str] = []
        self.style = False

    def feed(self, data: str) -> None:
        self.found += [match.strip() for match in re.findall(r"<\s*/?\s*(?:script|[$%{])[\w{}]*", data, re.IGNORECASE)]
        super().feed(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.style = tag == "style"
        if tag not in _TAGS and (self.whole or tag in ("script", "iframe", "object", "embed", "svg", "link", "base")):
            self.found.append(f"<{tag}>")
        for name, value in attrs:
            given = re.sub(r"[\0-\x20]", "", value or "").lower()
            if name.startswith("on") or name == "srcdoc":
                self.found.append(f"<{tag} {name}>")
            elif name in _ADDRESSES and re.match(r"(?!https?:|mailto:)[a-z][a-z0-9+.-]*:", given):
                self.found.append(f"<{tag} {name}={given[:40]}>")
            elif self.whole and name in _ADDRESSES and tag != "a" and re.match(r"[a-z]+:|//", given):
                self.found.append(f"<{tag} {name}={given[:40]}>")
            elif self.whole and name == "http-equiv" and given != "content-security-policy":
                self.found.append(f"<{tag} {name}={given[:40]}>")
            elif name == "style" and _LOADS.search(value or ""):
                self.found.append(f"<{tag} {name}>")

    def handle_endtag(self, tag: str) -> None:
        self.style = False

    def handle_data(self, data: str) -> None:
        if self.style and _LOADS.search(data):
            self.found.append("a style that loads something")

    def handle_comment(self, data: str) -> None:  # browsers end comments in more ways than one
        if self.whole:
            self.found.append("<!-- -->")

    def unknown_decl(self, data: str) -> None:
        self.found.append(f"<![{data[:20]}")

    def handle_pi(self, data: str) -> None:
        self.found.append(f"<?{data[:20]}")
