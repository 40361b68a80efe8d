"""The allow-list that a set of bundles needs, made from what a scan of them asked for, so that it holds no more."""

from __future__ import annotations

import hashlib
import json
import re
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

from .findings import KEYS, PYTHON, AllowList
from .forbidden import BUILTINS, FILE_METHODS, MODULES, hidden_danger

WIDTH = 120
ABOUT = "What our own four bundles use, and no more, as `python -m tools.scan --used` prints it; see docs/scan.md"
_NESTED = ("names", "reviewed")  # objects; the others are lists
_ASKED = ("targets", "imports", "attributes", "expressions", "readers", "logging")


def needed_list(allow: AllowList, sources: dict[str, bytes]) -> dict[str, Any]:
    """Return the content of an allow-list with what was asked of `allow`, and with its pickles, files and links.

    What is dangerous is only kept where it was listed before; what only a reviewed file may use is entered with that
    file and its new sha256, whose change a reviewer sees. New files come under review by hand.

    Args:
        sources: path in a bundle -> content, of Python files.
    """
    content: dict[str, Any] = {"_desc_": ABOUT}
    for key in KEYS:
        if key in _ASKED:
            asked = {name for kind, name, path in allow.asked if kind == key and not path}
            content[key] = sorted(asked)
        elif key != "python":
            given = getattr(allow, key)
            content[key] = list(given) if isinstance(given, tuple) else given
    reviewed = allow.python.get("reviewed", {})
    python = [entry for entry in allow.asked if entry[2]]
    general: dict[str, set[str]] = {kind: set() for kind in PYTHON}
    for kind, name, path in python:
        if path not in reviewed or not _telling(kind, name):
            general[kind].add(name)
    general["names"] = {name for name in general["names"] if allow.lists(name) or not hidden_danger(_plain(name))}
    content["python"] = {kind: sorted(general[kind]) for kind in PYTHON if kind not in _NESTED}
    content["python"] = {"names": grouped(general["names"]), **content["python"]}
    content["python"]["reviewed"] = {
        path: {
            "sha256": hashlib.sha256(sources[path]).hexdigest(),
            "names": sorted({name for kind, name, at in python if at == path and name not in general[kind]}),
        }
        for path in sorted(reviewed.keys() & sources.keys())
    }
    return content


def changes(before: AllowList, after: AllowList) -> Iterator[str]:
    """Yield a line for each name that comes new into a list, goes, or is left out: what a reviewer has to look at."""
    old, new = _flat(before), _flat(after)
    places = {(kind, name): path for kind, name, path in sorted(before.asked | after.asked)}
    for sign, names in (("+", new - old), ("-", old - new)):
        for kind, name in sorted(names):
            yield f"{sign} {kind}: {name}  {places.get((kind, name), '')}".rstrip()
    for kind, name, path in sorted(after.asked):
        if path and kind in ("names", "reviewed") and not {(kind, name), (f"reviewed {path}", name)} & new:
            yield f"! {kind}: {name}  {path}: can run or load code; enter it by hand, or its file under python.reviewed"


def _flat(allow: AllowList) -> set[tuple[str, str]]:
    found = {(key, name) for key in KEYS if key != "python" for name in getattr(allow, key)}
    found |= {(kind, name) for kind in PYTHON if kind not in _NESTED for name in allow.python.get(kind, ())}
    found |= {("names", name) for name in allow.names}
    for path, review in allow.python.get("reviewed", {}).items():
        found |= {(f"reviewed {path}", name) for name in (*review["names"], review["sha256"])}
    return found


def _telling(kind: str, name: str) -> bool:
    """Whether a name that a reviewed file uses stays with that file."""
    if kind == "names":
        return _plain(name).split(".")[0] in MODULES or bool(hidden_danger(_plain(name)))
    if kind in ("builtins", "attributes"):
        return name in BUILTINS or name in FILE_METHODS
    return True


def grouped(names: Iterable[str]) -> dict[str, list[str]]:
    """Return dotted names by what stands before their last dot."""
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        module, _, last = _plain(name).rpartition(".")
        groups.setdefault(module, []).append(last + name[len(_plain(name)) :])
    return dict(sorted(groups.items()))


def written(content: Any, indent: int = 0) -> str:
    """Return JSON with lists of words filled up to the width of a page, so that a change shows as few lines."""
    space = " " * (indent + 4)
    if isinstance(content, dict) and content:
        items = [f"{space}{json.dumps(key)}: {written(value, indent + 4)}" for key, value in content.items()]
        return "{\n" + ",\n".join(items) + "\n" + " " * indent + "}"
    if isinstance(content, list) and content:
        words = [json.dumps(word, ensure_ascii=False) for word in content]
        if sum(len(word) + 2 for word in words) < WIDTH - 50:
            return f"[{', '.join(words)}]"
        joined = ", ".join(word.replace(" ", "\0") for word in words)
        lines = textwrap.wrap(joined, WIDTH - len(space), break_long_words=False, break_on_hyphens=False)
        return "[\n" + "\n".join(space + line.replace("\0", " ") for line in lines) + "\n" + " " * indent + "]"
    return json.dumps(content, ensure_ascii=False)


def _plain(name: str) -> str:
    """A dotted name without the ` =` or `(...)` behind it."""
    return re.split(r"[ (]", name)[0]
