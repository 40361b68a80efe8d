"""What a scan found, and the list of what is allowed."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from common.errors import InputError

DEFAULT_ALLOW = Path(__file__).with_name("allow.json")
PACKAGES = ("imports", "names", "dunders", "calls", "reviewed")


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
    """What a bundle may hold. Everything else is refused, and what `scan_forbidden` names is refused even if listed.

    Args:
        targets: full `_target_`s; `torch.optim.*` stands for the classes directly in that module. What begins with
            `scripts.` needs no entry: it has to be defined in the bundle's own Python.
        imports: modules that a config may import, `numpy as np` with its alias.
        names: builtins and dotted names that an expression may use.
        attributes: attributes that an expression may read from a reference or a result.
        expressions: whole expressions for which the two lists above would have to be too wide; `<bundle>` stands for a
            bundle's folder name.
        readers: strings that MONAI turns into a class: `reader` and `writer` of its transforms.
        logging: handler and formatter classes of logging.conf.
        pickles: classes and functions that the pickles of a .pt file may name.
        files: patterns of paths in the bundle.
        links: path to target.
        python: `imports` are modules of which all may be used, `names` what may be used of other modules and which of
            the telling builtins, `dunders` attributes with two underscores, `calls` whole calls with a computed name,
            `reviewed` names that only one file may use, as long as that file has the sha256 of the review.
    """

    targets: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    expressions: tuple[str, ...] = ()
    readers: tuple[str, ...] = ()
    logging: tuple[str, ...] = ()
    pickles: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    links: dict[str, str] = field(default_factory=dict)
    python: dict[str, Any] = field(default_factory=dict)

    def permits_target(self, name: str) -> bool:
        module, _, last = name.rpartition(".")
        return name in self.targets or (f"{module}.*" in self.targets and last[:1].isupper())

    def permits_expression(self, text: str) -> bool:
        name = "[a-z][a-z0-9_]*"
        patterns = (name.join(map(re.escape, entry.split("<bundle>"))) for entry in self.expressions)
        return any(re.fullmatch(pattern, text) for pattern in patterns)

    def permits_file(self, path: str) -> bool:
        return any(fnmatchcase(path, pattern) for pattern in self.files)


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
        if key not in AllowList.__dataclass_fields__:
            problems.append(f"{path}: found key {key!r}; wanted one of {', '.join(AllowList.__dataclass_fields__)}")
        elif not isinstance(value, wanted) or (wanted is list and not all(isinstance(v, str) for v in value)):
            problems.append(f"{path}: {key}: wanted {'an object' if wanted is dict else 'a list of strings'}")
    python = content.get("python", {})
    if isinstance(python, dict):
        problems += [
            f"{path}: found python.{key}; wanted one of {', '.join(PACKAGES)}" for key in python.keys() - PACKAGES
        ]
    if problems:
        raise InputError(problems)
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
    return AllowList(**given)
