"""Read Python files by their syntax tree: what they import, and what of it they use. Nothing is imported.

Every name that comes from outside of the bundle has to be on the list by its exact dotted name, however the file came
by it. A module is no value: what is taken from it later couldn't be seen. Python is code all the same: a list of names
narrows what it can do and shows what it does openly. It is no proof of being harmless.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import io
import tokenize
from collections.abc import Iterator

from ..expression import dotted_name
from ..findings import AllowList, Finding
from ..forbidden import ATTRIBUTES, REVIEWED_ONLY, hidden_danger
from .modules import ROOT, Modules, absolute, own_scope

NAMED_ATTRIBUTE = ("getattr", "setattr", "delattr", "hasattr")
CALLED_ONLY = (*NAMED_ATTRIBUTE, "vars", "super")  # as values they would be called with what can't be seen
# calls that are harmless in this form alone; so are they listed
SAFE_ONLY_WITH = {"torch.load": ("weights_only", True), "numpy.load": ("allow_pickle", False)}
PLAIN_ONLY = ("inspect.signature",)  # with eval_str it evaluates annotations
_BIDIRECTIONAL = {chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200B, 0x200E, 0x200F)}
_BUILTINS = frozenset(dir(builtins)) | {"exit", "quit", "help", "copyright", "credits", "license"}


def scan_python(path: str, modules: Modules, allow: AllowList) -> Iterator[Finding]:
    """Yield each import and each name from outside of one of the bundle's files once, with the line of the first."""
    source = modules.sources[path]
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
    if path.partition("/")[0] != ROOT:  # the bundle's folder is put on sys.path
        yield Finding("python", path, path, "Python outside of scripts/ can stand in for an installed package")
    sha256 = hashlib.sha256(source).hexdigest()
    if allow.is_reviewed(path) and not allow.is_reviewed(path, sha256):
        yield Finding("python", path, sha256, "not the file that was reviewed")
    visitor = _Reader(path, sha256, modules, allow)
    try:
        visitor.visit(tree)
    except RecursionError:
        yield Finding("python", path, "nesting", "nested too deeply to be looked into")
    first: dict[tuple[str, str, str], Finding] = {}
    for finding in visitor.findings:
        first.setdefault((finding.kind, finding.what, finding.reason), finding)
    yield from first.values()


class _Reader(ast.NodeVisitor):
    def __init__(self, path: str, sha256: str, modules: Modules, allow: AllowList) -> None:
        self.path, self.sha256 = path, sha256
        self.modules, self.module, self.allow = modules, modules.at(path), allow
        self.aliases = self.module.imports
        self.checked: set[int] = set()  # nodes that are judged together with what is around them
        self.findings: list[Finding] = []

    def visit_Module(self, node: ast.Module) -> None:
        for name, meanings in self.module.doubled.items():
            self._add(node, "import", f"{name}: {', '.join(meanings)}", "one name for two imports")
        for statement in node.body:
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
                self._add(statement, "python", ast.unparse(statement)[:80], "a call on import")
        self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._import(node, alias.name, alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        shown = f"{'.' * node.level}{node.module or ''}"
        origin = absolute(self.path, node.level, node.module) if node.level else node.module or ""
        for alias in node.names:
            if node.level and not origin:
                self._add(node, "import", shown, "leads out of scripts/")
            elif alias.name == "*":
                self._add(node, "import", f"{shown}.*", "imports names that aren't written down")
            elif node.level:
                name = self._outside(node, f"{origin}.{alias.name}")
                self._add(node, "import", shown, "" if name is None or self._known(name) else f"passes on {name}")
            else:
                self._import(node, shown, f"{origin}.{alias.name}")

    def visit_Name(self, node: ast.Name) -> None:
        if id(node) in self.checked:
            return
        if node.id in self.aliases:
            if isinstance(node.ctx, ast.Load):
                self._use(node, self.aliases[node.id])
        elif not isinstance(node.ctx, ast.Load):
            self._define(node, node.id)
        elif node.id in CALLED_ONLY:
            self._add(node, "python", node.id, "as a value: what it is called with can't be seen")
        elif node.id in _BUILTINS or node.id not in self.module.bound:
            self._ask(node, "builtins", node.id, node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        root, _, rest = dotted_name(node).partition(".")
        if root in self.aliases:
            store = "" if isinstance(node.ctx, ast.Load) else " ="
            self._use(node, f"{self.aliases[root]}.{rest}", store)
            return
        on_super = isinstance(node.value, ast.Call) and ast.unparse(node.value) == "super()"
        if not on_super or node.attr not in ("__init__", "__call__"):
            self._attribute(node, node.attr, root in ("self", "cls"))
        self.visit(node.value)

    def visit_Call(self, node: ast.Call) -> None:
        starred = any(isinstance(given, ast.Starred) for given in node.args)
        starred |= any(keyword.arg is None for keyword in node.keywords)
        if isinstance(node.func, ast.Name) and node.func.id in CALLED_ONLY and node.func.id not in self.aliases:
            self._telling_builtin(node, node.func)
        full = self._dotted(node.func)
        if full in SAFE_ONLY_WITH:
            keyword, wanted = SAFE_ONLY_WITH[full]
            found = [k.value.value for k in node.keywords if k.arg == keyword and isinstance(k.value, ast.Constant)]
            if len(found) == 1 and found[0] is wanted and not starred:
                self.checked.add(id(node.func))
                self._ask(node, "names", f"{full}({keyword}={wanted})", f"{full}({keyword}={wanted})")
        elif full in PLAIN_ONLY and not node.keywords and not starred:
            self.checked.add(id(node.func))
            self._ask(node, "names", f"{full}()", f"{full}()")
        if id(node.func) not in self.checked:
            self.visit(node.func)
        for given in (*node.args, *node.keywords):
            self.visit(given)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._define(node, node.name)
        for inner in own_scope(node.body):
            if isinstance(inner, ast.Import | ast.ImportFrom):
                self._add(inner, "import", ast.unparse(inner), "an import that makes a module an attribute")
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._define(node, node.name)
        self.generic_visit(node)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_MatchClass(self, node: ast.MatchClass) -> None:
        for name in node.kwd_attrs:  # `case object(system=run)` reads an attribute
            self._attribute(node, name, False)
        self.generic_visit(node)

    def _telling_builtin(self, node: ast.Call, called: ast.Name) -> None:
        """Judge getattr and its like with what they are given, vars and super."""
        self.checked.add(id(called))
        name, shown = called.id, ast.unparse(node)[:120]
        if name not in NAMED_ATTRIBUTE:
            plain = len(node.args) == 1 and isinstance(node.args[0], ast.Name) if name == "vars" else not node.args
            if plain and not node.keywords:
                self._ask(called, "builtins", name, name)
            else:
                self._add(node, "python", shown, f"{name} of another thing than usual")
            return
        holder, given = node.args[:2] if len(node.args) > 1 else (called, called)
        if not (isinstance(given, ast.Constant) and isinstance(given.value, str)) or isinstance(holder, ast.Starred):
            self._ask(node, "reviewed", ast.unparse(node), shown, "an attribute by a computed name")
            return
        self._ask(called, "builtins", name, name)
        if dotted := self._dotted(holder):  # getattr(os, "system") is os.system
            self._use(node, f"{dotted}.{given.value}", "" if name in ("getattr", "hasattr") else " =")
            self.checked.update(id(inner) for inner in ast.walk(holder) if isinstance(inner, ast.Name | ast.Attribute))
        else:
            self._attribute(node, given.value, isinstance(holder, ast.Name) and holder.id in ("self", "cls"))

    def generic_visit(self, node: ast.AST) -> None:
        if id(node) not in self.checked:
            super().generic_visit(node)

    def visit(self, node: ast.AST) -> None:
        if id(node) not in self.checked:
            super().visit(node)

    def _dotted(self, node: ast.AST) -> str:
        """Return the dotted name from outside that a chain of names stands for, "" where it stands for none."""
        root, _, rest = dotted_name(node).partition(".")
        if root not in self.aliases:
            return ""
        full = f"{self.aliases[root]}.{rest}".rstrip(".")
        if full.split(".")[0] != ROOT:
            return full
        origin = self.modules.resolve(full)
        return origin.name if origin.kind in ("outside", "module") else ""

    def _import(self, node: ast.AST, module: str, dotted: str) -> None:
        allowed = module == "__future__" or self._known(dotted)
        self._add(node, "import", module, "" if allowed else "the import isn't in the allow-list")

    def _known(self, dotted: str) -> bool:
        return self.allow.knows(dotted, self.path, self.sha256)

    def _use(self, node: ast.AST, dotted: str, store: str = "") -> None:
        """Judge a dotted name that a chain of attributes stands for."""
        name = self._outside(node, dotted, value=True)
        if name is None and store:
            self._add(node, "python", f"{dotted}{store}", "changes what belongs to another file")
        elif name is not None:
            reason = hidden_danger(name) or "isn't in the allow-list"
            self._ask(node, "names", f"{name}{store}", f"{name}{store}", reason)

    def _outside(self, node: ast.AST, dotted: str, value: bool = False) -> str | None:
        """Return the name outside of the bundle that a name stands for, None for what the bundle defines."""
        if dotted.split(".")[0] != ROOT:
            return dotted
        origin = self.modules.resolve(dotted)
        if origin.kind == "outside":
            return origin.name
        if origin.kind == "module" and value:
            self._add(node, "python", dotted, "a module as a value: what is taken from it can't be seen")
        elif not origin.kind:
            self._add(node, "python", dotted, "the bundle's Python defines no such name")
        for attribute in origin.rest:
            self._attribute(node, attribute, False)
        return None

    def _define(self, node: ast.AST, name: str) -> None:
        if name.startswith("__"):  # what Python calls by itself
            self._ask(node, "methods", name, f"def {name}", "a name that Python uses by itself")

    def _attribute(self, node: ast.AST, name: str, own: bool) -> None:
        if name.startswith("__"):
            self._ask(
                node, "dunders", name, f".{name}", "an attribute with two underscores that isn't in the allow-list"
            )
        elif name in ATTRIBUTES:
            self._ask(node, "reviewed", name, f".{name}", "runs code or leads to it")
        elif name not in self.modules.own_attributes or (name.startswith("_") and not own):
            self._ask(node, "attributes", name, f".{name}")

    def _ask(self, node: ast.AST, kind: str, name: str, shown: str, reason: str = "isn't in the allow-list") -> None:
        if name.split(" ")[0] in REVIEWED_ONLY:
            kind = "reviewed"
        allowed = self.allow.permits_python(kind, name, self.path, self.sha256)
        self._add(node, "python", shown, "" if allowed else reason)

    def _add(self, node: ast.AST, kind: str, what: str, reason: str) -> None:
        self.findings.append(Finding(kind, f"{self.path}:{getattr(node, 'lineno', 1)}", what, reason))
