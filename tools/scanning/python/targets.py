"""Which class or function of a bundle a `_target_` names, and whether a config may call it with what it likes."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator

from ..findings import AllowList
from .modules import ROOT, Module, Modules

# what starts with these writes, moves, fetches or runs
_OUTSIDE = (
    *("open", "os", "shutil", "subprocess", "tempfile", "tarfile", "zipfile", "importlib", "atexit", "runpy"),
    *("socket", "urllib", "requests", "http", "torch.save", "torch.hub", "torch.jit", "nibabel.save"),
    *("safetensors.torch.save", "safetensors.torch.save_file", "numpy.save", "pickle"),
)
_READING = (
    *("os.PathLike", "os.environ.get", "os.cpu_count", "os.fspath", "os.path", "os.sched_getaffinity", "os.stat"),
    *("importlib.util.find_spec", "importlib.metadata"),
)
_METHODS = frozenset(
    "write write_text write_bytes unlink touch rmtree rmdir symlink_to save_as savefig tofile to_filename".split()
)
_BUILT = ("__new__", "__init__", "__post_init__")
_ENTERED = frozenset(("__enter__", "__aenter__", "__exit__", "__aexit__"))


def judge_definition(name: str, modules: Modules, allow: AllowList) -> str:
    """Return why a config may not name `scripts.module.Name` in a `_target_`, or "".

    It has to be a class or function of the bundle's own, no context manager, and nothing that itself writes, fetches
    or runs: a config would choose what, and where. In a file that may do more than others it is listed with the file.
    """
    origin = modules.resolve(name)
    node, module = origin.node, origin.module
    if origin.kind != "defined" or origin.rest or module is None:
        return "the bundle's Python defines no such class or function"
    if not isinstance(node, ast.ClassDef | ast.FunctionDef):
        return "the bundle's Python defines no such class or function"
    if any(_outside(decorator, module, modules).startswith("contextlib.") for decorator in node.decorator_list) or any(
        isinstance(inner, ast.FunctionDef) and inner.name in _ENTERED for inner in node.body
    ):
        return "a context manager"
    for what in _deeds(node, module, modules):
        return f"writes, fetches or runs by itself: {what}"
    sha256 = hashlib.sha256(modules.sources[module.path]).hexdigest()
    if allow.is_reviewed(module.path) and not allow.permits_python("reviewed", origin.name, module.path, sha256):
        return "in a file that may do more than others, and not listed with it"
    return ""


def _deeds(node: ast.AST, module: Module, modules: Modules) -> Iterator[str]:
    """Yield what happens where it is called; the methods of a class are called by what it is handed to."""
    body = node.body if isinstance(node, ast.ClassDef) else [node]
    for part in body:
        if part is not node and isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) and part.name not in _BUILT:
            continue
        yield from _calls(part, module, modules)


def _calls(node: ast.AST, module: Module, modules: Modules) -> Iterator[str]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Call):
            name = _outside(inner.func, module, modules)
            if _within(name, _OUTSIDE) and not _within(name, _READING):
                yield name
            elif isinstance(inner.func, ast.Attribute) and inner.func.attr in _METHODS:
                yield f".{inner.func.attr}"


def _outside(node: ast.AST, module: Module, modules: Modules) -> str:
    """Return the dotted name from outside that is called or decorates, a builtin's own name, else ""."""
    while isinstance(node, ast.Call):
        node = node.func
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.insert(0, node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    full = ".".join([module.imports.get(node.id, node.id), *parts])
    if full.split(".")[0] == ROOT:
        origin = modules.resolve(full)
        return origin.name if origin.kind == "outside" else ""
    return full if node.id in module.imports or (node.id not in module.bound and not parts) else ""


def _within(dotted: str, names: tuple[str, ...]) -> bool:
    return any(dotted == name or dotted.startswith(f"{name}.") for name in names)
