from __future__ import annotations

import gzip
import pickle

import pytest

from tools.scanning.contents import judge_content


def found(path: str, content: str | bytes) -> list[str]:
    content = content.encode() if isinstance(content, str) else content
    return [finding.what for finding in judge_content(path, content)]


def test_text_is_text():
    assert found("docs/a.txt", "a\tb\r\nc é\f") == []
    assert found("docs/a.txt", b"\xff") == ["encoding"] and found("LICENSE", gzip.compress(b"x")) == ["encoding"]
    assert found("docs/a.txt", "a\0b") == ["'\\x00'"] and found("docs/a.txt", "\x1b[2J") == ["'\\x1b'"]


@pytest.mark.parametrize("text", ["", "N.", "cat\ndog\n", "cat\ndog\nReduce", "(a) b", "I1\n.", "}.", "cos\nsystem\n."])
def test_text_that_begins_like_a_pickle(text):
    assert found("docs/a.txt", text) == []


@pytest.mark.parametrize("content", [b"cos\nsystem\n(S'x'\ntR.", b"cos\nsystem\n(S'x'\ntR", b"(S'x'\nios\nsystem\n."])
def test_pickles_are_told_by_what_they_would_call(content):
    assert found("docs/a.txt", content) == ["pickle: os.system"]
    assert "pickle: os.system" in found("docs/a.png", content)


def test_plain_data_of_a_pickle_is_no_text_either():
    assert found("docs/a.txt", pickle.dumps({"a": 1})) != []


@pytest.mark.parametrize(
    ("page", "what"),
    [
        ("<p onclick='x'>", "<p onclick>"),
        ("<a href='JavaScript:x'>", "<a href=javascript:x>"),
        ("<a href='&#106;avascript:x'>", "<a href=javascript:x>"),
        ("<a href='data:text/html,x'>", "<a href=data:text/html,x>"),
        ("<svg><p>", "<svg>"),
        ("<p style='background: url(x)'>", "<p style>"),
        ("<style>p { background: u\\72l(x) }</style>", "a style that loads something"),
        ("<![CDATA[x]]>", "<![CDATA[x"),
        ("<?php x?>", "<?php x?"),
    ],
)
def test_pages(page, what):
    assert what in found("scripts/common/report/a.html", page)


def test_a_document_may_show_more_than_a_page():
    text = "<!-- note --> <img src='https://example.org/a.png'> a < b <details>x</details> <me@example.org>"
    assert found("docs/README.md", text) == []
    assert found("docs/README.md", "<img src=x onerror=y>") == ["<img onerror>"]
