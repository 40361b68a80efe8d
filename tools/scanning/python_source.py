"""Read Python files by their syntax tree: what they import, and what of it they use. Nothing is imported.

Python is code: a list of names narrows what it can do and shows what it does openly. It is no proof of being harmless.
"""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from collections.abc import Iterator

from .expression import dotted_name
from .findings import AllowList, Finding
from .forbidden import ATTRIBUTES, hidden_danger

# builtins by which code gets at other code, files or names
TELLING = frozenset(
    "eval exec compile open __import__ breakpoint globals locals vars dir getattr setattr delattr "
    "__builtins__ __loader__ __spec__".split()
)
_SYSTEM = frozenset("os sys subprocess builtins importlib ctypes socket pickle shutil posix nt".split())
_NAMED_ATTRIBUTE = ("getattr", "setattr", "delattr", "hasattr")
_PICKLING = frozenset("__reduce__ __reduce_ex__ __getnewargs__ __getnewargs_ex__ __setstate__ __del__".split())
_SAFE_ONLY_WITH = {"torch.load": ("weights_only", True), "numpy.load": ("allow_pickle", False)}
_BIDIRECTIONAL = {chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200B, 0x200E, 0x200F)}


def scan_python(path: str, source: bytes, allow: AllowList) -> Iterator[Finding]:
    """Yield each import and each telling name of a Python file once, with the line where it comes first."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
        tree = ast.parse(source, filename=path)
        text = source.decode(encoding)
    except (SyntaxError, ValueError, RecursionError, MemoryError, LookupError) as error:
        yield Finding("python", path, type(error).__name__, "can't be read as Python")
        return
    if encoding not in ("utf-8", "utf-8-sig"):
        yield Finding("python", path, encoding, "an encoding other than UTF-8")
    if _BIDIRECTIONAL & set(text):
        yield Finding("python", path, "invisible signs", "text that looks different from what it is")
    if path.partition("/")[0] != "scripts":  # the bundle's folder is put on sys.path
        yield Finding("python", path, path, "Python outside of scripts/ can stand in for an installed package")
    visitor = _Reader(path, allow, _reviewed(path, source, allow))
    try:
        visitor.visit(tree)
    except RecursionError:
        yield Finding("python", path, "nesting", "nested too deeply to be looked into")
    if visitor.unused_review:
        yield Finding("python", path, hashlib.sha256(source).hexdigest(), "not the file that was reviewed")
    first: dict[tuple[str, str, str], Finding] = {}
    for finding in visitor.findings:
        first.setdefault((finding.kind, finding.what, finding.reason), finding)
    yield from first.values()


def defined_names(source: bytes) -> dict[str, str]:
    """Return what a module defines at its top: class or function -> "", and name -> "..module.name" if imported so."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    found = {}
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found[node.name] = ""
        elif isinstance(node, ast.ImportFrom) and node.level:
            for alias in node.names:
                dots = "." * node.level
                found[alias.asname or alias.name] = f"{dots}{node.module}.{alias.name}" if node.module else ""
                if not node.module:  # a module, which is no class
                    found.pop(alias.asname or alias.name)
    return found


def _reviewed(path: str, source: bytes, allow: AllowList) -> frozenset[str] | None:
    """What this file alone may use; None where it isn't the file that was reviewed."""
    review = allow.python.get("reviewed", {}).get(path)
    if review is None:
        return frozenset()
    return frozenset(review["names"]) if hashlib.sha256(source).hexdigest() == review["sha256"] else None


class _Reader(ast.NodeVisitor):
    def __init__(self, path: str, allow: AllowList, reviewed: frozenset[str] | None) -> None:
        self.path = path
        self.unused_review = reviewed is None
        self.modules = frozenset(allow.python.get("imports", ()))
        self.names = frozenset(allow.python.get("names", ())) | (reviewed or frozenset())
        self.dunders = frozenset(allow.python.get("dunders", ()))
        self.calls = frozenset(allow.python.get("calls", ())) | (reviewed or frozenset())
        self.aliases: dict[str, str] = {}  # name in the file -> dotted name of what was imported
        self.whole: set[str] = set()  # those of them that are modules
        self.checked_calls: set[int] = set()
        self.findings: list[Finding] = []

    def visit_Module(self, node: ast.Module) -> None:
        for inner in ast.walk(node):  # imports first: a name may be used above a later import
            if isinstance(inner, ast.Import):
                for alias in inner.names:
                    self._import(inner, alias.name)
                    root = alias.name.split(".")[0]
                    self._bind(inner, alias.asname or root, alias.name if alias.asname else root)
                    self.whole.add(alias.asname or root)
            elif isinstance(inner, ast.ImportFrom):
                self._import_from(inner)
        for statement in node.body:
            called = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
            if called:
                self._add(statement, "python", ast.unparse(statement)[:80], "a call on import")
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in self.whole and id(node) not in self.checked_calls:
            self._add(node, "python", node.id, "a module as a value: what is taken from it can't be seen")
        elif node.id in self.aliases:
            self._use(node, self.aliases[node.id])
        elif node.id in TELLING:
            self._builtin(node, node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        root, _, rest = dotted_name(node).partition(".")
        dotted = f"{self.aliases[root]}.{rest}" if root in self.aliases else ""
        if dotted not in self.names:
            for name in rest.split(".") if dotted else [node.attr]:
                self._attribute(node, name)
        if dotted:
            self._use(node, dotted)
        else:
            self.visit(node.value)

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name == "vars" and ast.unparse(node) in self.calls:
            self.checked_calls.add(id(node.func))
            self._add(node, "python", ast.unparse(node), "")
        if name in _NAMED_ATTRIBUTE and name not in self.aliases:
            holder, given = node.args[:2] if len(node.args) > 1 else (None, None)
            self.checked_calls.add(id(node.func))
            if isinstance(given, ast.Constant) and isinstance(given.value, str):
                self._attribute(node, given.value)
                if isinstance(holder, ast.Name) and holder.id in self.whole:  # getattr(os, "system") is os.system
                    self._use(node, f"{self.aliases[holder.id]}.{given.value}")
                    self.checked_calls.add(id(holder))
            else:
                text = ast.unparse(node)
                self._add(node, "python", text[:120], "" if text in self.calls else "an attribute by a computed name")
        dotted = dotted_name(node.func)
        root, _, rest = dotted.partition(".")
        full = f"{self.aliases[root]}.{rest}".rstrip(".") if root in self.aliases else ""
        if full in _SAFE_ONLY_WITH:
            keyword, wanted = _SAFE_ONLY_WITH[full]
            found = [k.value.value for k in node.keywords if k.arg == keyword and isinstance(k.value, ast.Constant)]
            if found == [wanted] and not any(k.arg is None for k in node.keywords):
                self.checked_calls.add(id(node.func))
                self._add(node, "python", f"{full}(..., {keyword}={wanted})", "")
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        if node.name in _PICKLING:
            self._add(node, "python", f"def {node.name}", "a way to run code when an object is loaded or dropped")
        self.generic_visit(node)

    visit_AsyncFunctionDef = visit_FunctionDef

    def _import_from(self, node: ast.ImportFrom) -> None:
        if node.level:
            inside = len(self.path.split("/")) - node.level >= 1
            self._add(
                node, "import", f"{'.' * node.level}{node.module or ''}", "" if inside else "leads out of scripts/"
            )
            return
        for alias in node.names:
            if alias.name == "*":
                self._add(node, "import", f"{node.module}.*", "imports names that aren't written down")
            else:
                self._import(node, node.module or "", alias.name)
                self._bind(node, alias.asname or alias.name, f"{node.module}.{alias.name}")

    def _bind(self, node: ast.AST, name: str, dotted: str) -> None:
        if self.aliases.setdefault(name, dotted) != dotted:
            self._add(node, "import", f"{name}: {self.aliases[name]}, {dotted}", "one name for two imports")

    def _import(self, node: ast.AST, module: str, name: str = "") -> None:
        dotted = f"{module}.{name}" if name else module
        root = any(entry.startswith(f"{module}.") for entry in self.names)  # of which only some names may be used
        reason = "" if module in self.modules or root else "the import isn't in the allow-list"
        self._add(node, "import", module, reason)
        if name and not reason and not any(entry.startswith(f"{dotted}.") for entry in self.names):
            self._use(node, dotted)

    def _use(self, node: ast.AST, dotted: str) -> None:
        if dotted in self.names or id(node) in self.checked_calls:
            return self._add(node, "python", dotted, "") if dotted in self.names else None
        packages = [module for module in self.modules if dotted == module or dotted.startswith(f"{module}.")]
        if not packages:
            wider = any(dotted.startswith(f"{name}.") for name in self.names)
            if not wider:
                self._add(node, "python", dotted, "isn't in the allow-list")
        elif reason := hidden_danger(dotted):
            self._add(node, "python", dotted, reason)

    def _builtin(self, node: ast.Name, name: str) -> None:
        if id(node) not in self.checked_calls:
            self._add(node, "python", name, "" if name in self.names else "isn't in the allow-list")

    def _attribute(self, node: ast.AST, name: str) -> None:
        if name.startswith("__") and name not in self.dunders | self.names:
            self._add(node, "python", f".{name}", "an attribute with two underscores that isn't in the allow-list")
        elif (name in ATTRIBUTES or name.strip("_") in _SYSTEM) and name not in self.names:
            self._add(node, "python", f".{name}", "runs code or leads to it")

    def _add(self, node: ast.AST, kind: str, what: str, reason: str) -> None:
        self.findings.append(Finding(kind, f"{self.path}:{getattr(node, 'lineno', 0)}", what, reason))
