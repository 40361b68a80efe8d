"""What a scan found, and the list of what is allowed."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

from common.errors import InputError

DEFAULT_ALLOW = Path(__file__).with_name("allow.json")
PYTHON = ("names", "builtins", "attributes", "dunders", "methods", "reviewed")


_BUNDLE = re.compile(r"'bundles/[a-z][a-z0-9_]*'")


@dataclass(frozen=True)
class Finding:
    """One thing that a bundle would execute, load or bring along; it is allowed where no reason speaks against it."""

    kind: str
    where: str
    what: str
    reason: str = ""

    @property
    def allowed(self) -> bool:
        return not self.reason


@dataclass(frozen=True)
class AllowList:
    """What a bundle may hold. Everything else is refused, and what `forbidden` names is refused even if listed.

    What was asked for is kept in `asked`: (kind, name, path), where path is that of a Python file, else "".

    Args:
        targets: full `_target_`s. What begins with `scripts.` has to be defined in the bundle's own Python besides.
        imports: modules that a config may import, `numpy as np` with its alias.
        attributes: attributes that an expression may read from a reference or a result.
        expressions: whole expressions that do more than that; `<bundle>` stands for a bundle's folder name.
        readers: strings that MONAI turns into a class: `reader` and `writer` of its transforms.
        logging: handler and formatter classes of logging.conf.
        pickles: classes and functions that the pickles of a .pt file may name.
        files: patterns of paths in the bundle.
        links: path to target.
        python: `names` from outside, each by its exact dotted name: module -> names; `name =` may be set, `name(...)`
            may be called in that form alone. `builtins`; `attributes` of objects that no file of the bundle defines;
            `dunders`, those with two underscores; `methods`, names with two underscores that a class may define;
            `reviewed` what only one file may use, as long as it has the sha256 of the review.
    """

    targets: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    expressions: tuple[str, ...] = ()
    readers: tuple[str, ...] = ()
    logging: tuple[str, ...] = ()
    pickles: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    links: dict[str, str] = field(default_factory=dict)
    python: dict[str, Any] = field(default_factory=dict)
    asked: set[tuple[str, str, str]] = field(default_factory=set, compare=False)

    def permits(self, kind: str, name: str) -> bool:
        """Whether a name is in the list of its kind: targets, imports, attributes, readers, logging."""
        self.asked.add((kind, name, ""))
        return name in getattr(self, kind)

    def permits_expression(self, text: str) -> bool:
        text = _BUNDLE.sub("'bundles/<bundle>'", text)
        self.asked.add(("expressions", text, ""))
        return text in self.expressions

    def permits_file(self, path: str) -> bool:
        return any(fnmatchcase(path, pattern) for pattern in self.files)

    def permits_python(self, kind: str, name: str, path: str, sha256: str) -> bool:
        """Whether a Python file may use a name of a kind of `python`; of the kind "reviewed" only after a review."""
        self.asked.add((kind, name, path))
        listed = self.names if kind == "names" else self.python.get(kind, ()) if kind != "reviewed" else ()
        return name in listed or (self.is_reviewed(path, sha256) and name in self.python["reviewed"][path]["names"])

    def lists(self, name: str) -> bool:
        """Whether any Python file may use a dotted name from outside."""
        return name in self.names

    def is_reviewed(self, path: str, sha256: str = "") -> bool:
        """Whether a file may do more than others; with a sha256, whether it is the one that was read."""
        review = self.python.get("reviewed", {}).get(path)
        return review is not None and (not sha256 or review["sha256"] == sha256)

    def knows(self, dotted: str, path: str, sha256: str) -> bool:
        """Whether a Python file may use a name or something in it, so that it may import it."""
        own = self.python["reviewed"][path]["names"] if self.is_reviewed(path, sha256) else ()
        return dotted in self._parents or any(f"{name}.".startswith(f"{dotted}.") for name in own)

    @cached_property
    def names(self) -> frozenset[str]:
        return frozenset(f"{module}.{name}" for module, names in self.python.get("names", {}).items() for name in names)

    @cached_property
    def _parents(self) -> frozenset[str]:
        plain = (re.split(r"[ (]", name)[0].split(".") for name in self.names)
        return frozenset(".".join(parts[:length]) for parts in plain for length in range(1, len(parts) + 1))


KEYS = tuple(key for key in AllowList.__dataclass_fields__ if key != "asked")


def read_allow_list(path: Path = DEFAULT_ALLOW) -> AllowList:
    """Read an allow-list.

    Raises:
        InputError: no such file, no JSON, or a key that an allow-list doesn't have.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: found {error}; wanted an allow-list in JSON") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: found {type(content).__name__}; wanted an object of lists")
    content.pop("_desc_", None)
    problems = []
    for key, value in content.items():
        wanted = dict if key in ("links", "python") else list
        if key not in KEYS:
            problems.append(f"{path}: found key {key!r}; wanted one of {', '.join(KEYS)}")
        elif not isinstance(value, wanted) or (wanted is list and not all(isinstance(v, str) for v in value)):
            problems.append(f"{path}: {key}: wanted {'an object' if wanted is dict else 'a list of strings'}")
    python = content.get("python", {})
    if isinstance(python, dict):
        problems += [f"{path}: found python.{key}; wanted one of {', '.join(PYTHON)}" for key in python.keys() - PYTHON]
    if problems:
        raise InputError(problems)
    return as_allow_list(content)


def as_allow_list(content: dict[str, Any]) -> AllowList:
    """Return the list of a content whose keys were checked."""
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items() if k in KEYS}
    return AllowList(**given)
