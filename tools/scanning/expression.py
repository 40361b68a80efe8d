"""Judge a `$` expression by its syntax tree: which names, attributes and forms of Python it uses."""

from __future__ import annotations

import ast
import re

from .findings import AllowList
from .forbidden import ATTRIBUTES, BUILTINS, MODULES, forbidden, is_dunder

LONGEST = 2000
REFERENCES = "__local_refs"
_REFERENCE = re.compile(r"@\w*(?:::\w*)*")
_RELATIVE = re.compile(r"[@%](?:::|#)")
# what needs no entry: references, listed attributes of them, calls of these with these, lists of these, and len.
# No text, no sums, no slices, no conditions: what they come to can't be seen, and could be a path or a name
_FORMS: tuple[type[ast.AST], ...] = (ast.Expression, ast.Name, ast.Attribute, ast.Subscript, ast.Call, ast.keyword)
_FORMS += (ast.Starred, ast.List, ast.Tuple, ast.expr_context)
_FREE = ("len",)
_NAMED_ATTRIBUTE = ("getattr", "setattr", "hasattr", "delattr")


def substitute_references(expression: str) -> str:
    """Replace `@id::key` by a lookup, as text, as MONAI does before it evaluates: also inside a string literal.

    Behaves as `monai.bundle.ReferenceResolver.update_refs_pattern` does where every reference is known.
    """
    text = expression.replace("#", "::")
    for item in sorted(_REFERENCE.findall(text), key=len, reverse=True):
        text = text.replace(item, f"{REFERENCES}['{item[1:]}']")
    return text


def judge_expression(expression: str, allow: AllowList) -> str:
    """Return why an expression (without its `$`) is refused, or "".

    It is allowed as a whole, word by word, or where it holds no more than references, listed attributes and numbers.

    Nothing is evaluated or imported. Import statements are `judge_import`'s.
    """
    if len(expression) > LONGEST:
        return f"longer than {LONGEST} characters"
    if REFERENCES in expression:
        return "names MONAI's own table of references"
    if _RELATIVE.search(expression):
        return "a relative reference, into which MONAI writes the keys of the config as text"
    try:
        tree = ast.parse(substitute_references(expression), mode="eval")
        grammar = _Grammar(allow)
        grammar.visit(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"no Python expression ({type(error).__name__})"
    if grammar.never:
        return "; ".join(dict.fromkeys(grammar.never))
    if grammar.reasons and not allow.permits_expression(f"${expression}"):
        return "; ".join(dict.fromkeys(grammar.reasons)) + "; as a whole it isn't in the allow-list either"
    return "" if grammar.reasons else grammar.judge_attributes()


def parse_import(expression: str) -> ast.Import | ast.ImportFrom | None:
    """Return the import statement that MONAI would carry out for this expression, None where it is no import."""
    try:
        body = ast.parse(expression).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return body[0] if body and isinstance(body[0], ast.Import | ast.ImportFrom) else None


def judge_import(expression: str, allow: AllowList) -> str:
    """Return why an import statement of a config is refused, or ""."""
    allowed = allow.permits("imports", expression.removeprefix("import ").strip())
    return "" if allowed else "the import isn't in the allow-list"


def dotted_name(node: ast.AST) -> str:
    """`a.b.c` where the node is that chain of plain names, else ""."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


class _Grammar(ast.NodeVisitor):
    """Collect what speaks against an expression.

    `never` can't be overruled by an allow-list; `reasons` are what makes it one that has to be listed as a whole.
    """

    def __init__(self, allow: AllowList) -> None:
        self.allow = allow
        self.aliases = {"np": "numpy"}  # MONAI's own
        self.aliases |= dict(entry.split(" as ")[::-1] for entry in allow.imports if " as " in entry)
        self.bound: set[str] = set()
        self.attributes: dict[str, None] = {}
        self.reasons: list[str] = []
        self.never: list[str] = []

    def judge_attributes(self) -> str:
        refused = [name for name in self.attributes if not self.allow.permits("attributes", name)]
        return "; ".join(f".{name} isn't in the allow-list" for name in refused)

    def visit_Expression(self, node: ast.Expression) -> None:
        for inner in ast.walk(node):
            if isinstance(inner, ast.arg):
                self.bound.add(inner.arg)
            elif isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                self.bound.add(inner.id)
        roots = BUILTINS | MODULES | set(self.aliases) | set(self.allow.imports)
        if hidden := {name for name in self.bound if name in roots or name.startswith("_")}:
            self.never.append(f"gives {', '.join(sorted(hidden))} another meaning")
        self.generic_visit(node)

    def generic_visit(self, node: ast.AST) -> None:
        if not isinstance(node, _FORMS) and not _is_plain(node):
            self.reasons.append(f"{type(node).__name__} isn't in the grammar")
        super().generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if node.id != REFERENCES and node.id not in self.bound:
            self._judge(self.aliases.get(node.id, node.id))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        dotted = dotted_name(node)
        root = dotted.split(".")[0]
        if dotted and root not in self.bound and root != REFERENCES:
            self._judge(".".join([self.aliases.get(root, root), *dotted.split(".")[1:]]))
            return
        self._judge_attribute(node.attr)
        self.visit(node.value)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if isinstance(node.value, ast.Name) and node.value.id == REFERENCES:
            parts = str(getattr(node.slice, "value", "")).split("::")
            if parts[0] == "imports":  # the modules themselves
                self.never.append("takes a module from `imports`")
            if any(is_dunder(part) for part in parts):
                self.never.append("a reference with two underscores")
            return
        self.reasons.append("takes a part of what a reference stands for")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        called = node.func.id if isinstance(node.func, ast.Name) else ""
        if called in _NAMED_ATTRIBUTE:
            name = node.args[1] if len(node.args) > 1 else None
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                self._judge_attribute(name.value)
            else:
                self.never.append(f"{called} with a computed name")
        if called in self.bound or not isinstance(node.func, ast.Name | ast.Attribute | ast.Subscript):
            self.reasons.append("calls what isn't a name, an attribute or a reference")
        self.generic_visit(node)

    def _judge(self, dotted: str) -> None:
        if reason := forbidden(dotted):
            self.never.append(reason)
        elif dotted not in _FREE:
            self.reasons.append(f"{dotted} is from outside")

    def _judge_attribute(self, name: str) -> None:
        if is_dunder(name) or name in ATTRIBUTES:
            self.never.append(f".{name} is never allowed")
        self.attributes[name] = None


def _is_plain(node: ast.AST) -> bool:
    """Whether a node is a number, True, False or None."""
    return isinstance(node, ast.Constant) and not isinstance(node.value, str | bytes)
