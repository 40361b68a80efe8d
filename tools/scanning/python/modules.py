"""The Python files of a bundle as one: which file defines a name, and which only passes on what it imported."""

from __future__ import annotations

import ast
import io
import pathlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ..forbidden import ATTRIBUTES, FILE_METHODS

ROOT = "scripts"  # the package that a bundle's Python is
# one list has to fit Python 3.11 and those after it: names that begin with _ and these of paths hang on the version
_LATER = frozenset({"walk", "is_junction", "full_match", "from_uri", "with_segments", "copy_into", "move", "move_into"})
# what every program reads of texts, lists, files and paths is listed, also where a bundle has a name like it
_COMMON = (
    frozenset(
        name
        for kind in (str, bytes, list, dict, set, io.TextIOWrapper, io.BytesIO, pathlib.Path)
        for name in dir(kind)
        if name.startswith("__") or not name.startswith("_")
    )
    | _LATER
)
_DEEPEST = 16  # files that pass a name on to each other


@dataclass
class Module:
    """One file: its tree, None where it can't be read, and what its names stand for.

    Args:
        imports: name -> dotted name of what was imported under it; what begins with `scripts.` is the bundle's own.
        doubled: names that two imports give different meanings.
        defined: name -> the statement that defines it at the top of the file.
        bound: every name that the file gives a meaning anywhere.
    """

    path: str
    tree: ast.Module | None = None
    imports: dict[str, str] = field(default_factory=dict)
    doubled: dict[str, tuple[str, str]] = field(default_factory=dict)
    defined: dict[str, ast.AST] = field(default_factory=dict)
    bound: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Origin:
    """What a name of the bundle's own comes from.

    Args:
        kind: "outside", "defined", "module", or "" where nothing defines it.
        name: dotted name: of what is outside, or where it is defined.
        rest: attributes behind a definition.
    """

    kind: str
    name: str
    rest: tuple[str, ...] = ()
    module: Module | None = None
    node: ast.AST | None = None


class Modules:
    """Read the files when they are needed, each once.

    Args:
        sources: path in the bundle -> content.
    """

    def __init__(self, sources: Mapping[str, bytes]) -> None:
        self.sources = sources
        self.read: dict[str, Module] = {}
        self._attributes: set[str] | None = None

    def at(self, path: str) -> Module:
        if path not in self.read:
            self.read[path] = _read(path, self.sources[path])
        return self.read[path]

    @property
    def own_attributes(self) -> set[str]:
        """Attributes that the bundle's classes and files define, but for names by which others run or write things."""
        if self._attributes is None:
            found = {name for path in self.sources for name in _attributes(self.at(path).tree)}
            self._attributes = {name for name in found if not is_risky(name)}
        return self._attributes

    def resolve(self, dotted: str, depth: int = _DEEPEST) -> Origin:
        """Follow a dotted name that begins with `scripts.` through the files that pass it on."""
        parts = dotted.split(".")
        for length in range(len(parts), 0, -1):
            name, rest = ".".join(parts[:length]), parts[length:]
            path = self._path(name)
            if path is None:
                continue
            if not rest:
                return Origin("module", name)
            module = self.at(path) if path else Module("")
            if rest[0] in module.imports and depth:
                target = ".".join([module.imports[rest[0]], *rest[1:]])
                if target.split(".")[0] != ROOT:
                    return Origin("outside", target)
                return self.resolve(target, depth - 1)
            if rest[0] in module.defined:
                return Origin("defined", f"{name}.{rest[0]}", tuple(rest[1:]), module, module.defined[rest[0]])
            break
        return Origin("", dotted)

    def _path(self, dotted: str) -> str | None:
        """Return the file of a module, "" for a folder without one."""
        folder = dotted.replace(".", "/")
        for path in (f"{folder}/__init__.py", f"{folder}.py"):
            if path in self.sources:
                return path
        return "" if any(path.startswith(f"{folder}/") for path in self.sources) else None


def is_risky(name: str) -> bool:
    """Whether an attribute of this name could be a system module, run code or write a file, whoever defines it."""
    return bool({name} & (ATTRIBUTES | FILE_METHODS | _COMMON)) or name.strip("_") in sys.stdlib_module_names


def absolute(path: str, level: int, module: str | None) -> str:
    """Return the dotted name of a relative import in the file at `path`, "" where it leads out of `scripts`."""
    package = path.split("/")[:-1]
    base = package[: len(package) - level + 1] if level <= len(package) else []
    return ".".join([*base, *filter(None, [module])]) if base and base[0] == ROOT else ""


def _read(path: str, source: bytes) -> Module:
    module = Module(path)
    try:
        module.tree = ast.parse(source, filename=path)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return module
    for node in ast.walk(module.tree):
        for name, dotted in _imported(node, path):
            if module.imports.setdefault(name, dotted) != dotted:
                module.doubled[name] = (module.imports[name], dotted)
        module.bound.update(bound_names(node))
    module.bound.update(module.imports)
    for node in own_scope(module.tree.body):
        for name in bound_names(node):
            module.defined.setdefault(name, node)
    return module


def _imported(node: ast.AST, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            root = alias.name.split(".")[0]
            yield alias.asname or root, alias.name if alias.asname else root
    elif isinstance(node, ast.ImportFrom):
        origin = absolute(path, node.level, node.module) if node.level else node.module
        for alias in node.names:
            if alias.name != "*":
                yield alias.asname or alias.name, f"{origin}.{alias.name}"


def bound_names(node: ast.AST) -> Iterator[str]:
    """Yield the names that one node gives a meaning; those of imports aside."""
    if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        yield node.id
    elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield node.name
    elif isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
        yield node.name
    elif isinstance(node, ast.MatchMapping) and node.rest:
        yield node.rest
    elif type(node).__name__ in ("TypeVar", "ParamSpec", "TypeVarTuple"):  # Python 3.12
        yield node.name  # type: ignore[attr-defined]  # mypy looks at the oldest Python


def own_scope(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Yield the nodes of a file's or a class's own scope, without the insides of the functions and classes in it."""
    for node in body:
        yield node
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from own_scope(ast.iter_child_nodes(node))


def _attributes(tree: ast.Module | None) -> Iterator[str]:
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        if isinstance(node, ast.ClassDef):
            yield from (name for inner in own_scope(node.body) for name in bound_names(inner))
