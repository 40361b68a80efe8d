"""Every command that a page shows is one: files that are there, keys that exist, words that settings can be."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.errors import find_input_error
from support.bundle.path import import_bundle

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("bundles/*/docs/README.md")), ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
PAGES.remove(ROOT / "docs" / "adding_a_method.md")  # of a bundle that its reader makes; test_new_bundle.py makes it
PROGRAM = "/somewhere/site-packages/monai/bundle/__main__.py"
# what stands for something of the reader's own; a folder, so that it is there
PLACES = r"\b[A-Z]{2}[A-Z_]*\b"
FOLDER = str(ROOT / "docs")


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the words of each command of a page's bash blocks, variables filled in, placeholders by what is there."""
    variables: dict[str, str] = {}
    for block in re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        text = block.replace("\\\n", " ")
        given = re.findall(r"^\s*(\w+)=(\S+|\".*\")$", text, re.MULTILINE)
        variables |= {name: value.strip('"') for name, value in given}
        for line in text.splitlines():
            for name, value in variables.items():
                line = line.replace(f"${name}", value)
            words = shlex.split(line, comments=True)
            start = next((n for n, word in enumerate(words) if word.startswith(("python", "torchrun"))), None)
            if start is not None:
                yield [re.sub(PLACES, FOLDER, word) for word in words[start:]]


def shown(*wanted: str) -> list:
    """Return the commands of all pages that hold these words, each once, with the page's name as its id."""
    found = {
        " ".join(words): pytest.param(words, id=f"{page.relative_to(ROOT)}: {' '.join(words)[-70:]}")
        for page in PAGES
        for words in commands(page)
        if " ".join(wanted) in " ".join(words)
    }
    return list(found.values())


RUNS, TOOLS = shown("-m", "monai.bundle", "run"), shown("-m", "tools.")


def test_the_pages_show_commands():
    """Or the patterns above find nothing, and nothing is tested."""
    assert len(RUNS) > 40 and len(TOOLS) > 8


@pytest.mark.parametrize("words", RUNS)
def test_a_run_that_is_shown_gets_past_the_settings(words, monkeypatch):
    flags = words[words.index("run") + 1 :]
    named = re.search(r"bundles/(\w+)/configs", " ".join(flags))
    if named is None:
        pytest.skip("a command for inside a bundle's folder, whichever it is")
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # put back
    monkeypatch.setattr(sys, "argv", [PROGRAM, "run", *flags])
    check = import_bundle(named[1], "settings").check
    try:
        check()
    except ValueError as error:
        pytest.fail("; ".join(find_input_error(error).problems))


class Parsed(Exception):
    """The parser has taken all words."""


@pytest.mark.parametrize("words", TOOLS)
def test_a_tool_that_is_shown_takes_its_words(words, monkeypatch):
    name = next(word for word in words if word.startswith("tools."))
    within, parsers = [], {one: getattr(argparse.ArgumentParser, one) for one in ("parse_args", "parse_known_args")}

    def stop(name):
        def parse(*arguments, **options):
            within.append(name)
            found = parsers[name](*arguments, **options)
            if len(within) > 1 and within.pop():  # the former asks the latter, and looks at what that has left
                return found
            raise Parsed

        return parse

    monkeypatch.chdir(ROOT)
    for one in parsers:
        monkeypatch.setattr(argparse.ArgumentParser, one, stop(one))
    with pytest.raises(Parsed):
        importlib.import_module(name).main(words[words.index(name) + 1 :])
