"""Walk through JSON and YAML configs as text: what MONAI would import, call, evaluate or read from elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterator
from typing import Any

from .expression import judge_expression, judge_import, parse_import
from .findings import AllowList, Finding
from .forbidden import forbidden, is_dunder, is_standard_module, leads_elsewhere

MODES = ("default",)
RESERVED = ("_target_", "_disabled_", "_requires_", "_desc_", "_mode_", "_meta_")
READERS = ("reader", "writer")  # MONAI locates a class by the string it finds here
_KEY = re.compile(r"\+?[\w .-]+((::|#)[\w .-]+)*", re.ASCII)
_WHEEL = re.compile(r"[a-z][a-z0-9_]*_scripts\.(?P<name>.+)", re.ASCII)  # of `tools.pack --pure`, see docs/scan.md
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
_FILE = re.compile(
    r".*\.(json|ya?ml|conf|pt|pth|ts|safetensors|csv|html|svg|txt|md|nii|gz|nrrd|mha|dcm|py)", re.IGNORECASE
)
_SHAPE = re.compile(r"[\dnp+ ]*(\*[\dnp+ ]+)*")  # one *, never **


class Pairs(list):
    """The items of an object in their order, with keys that stand twice."""


class ConfigScanner:
    """Scan configs one after the other.

    Args:
        judge_own: says what speaks against `scripts.module.Name` as a target, "" where nothing does.
    """

    def __init__(self, allow: AllowList, judge_own: Callable[[str], str]) -> None:
        self.allow = allow
        self.judge_own = judge_own

    def scan(self, path: str, text: str) -> Iterator[Finding]:
        """Yield a finding for each `_target_`, expression, import, macro, and for what looks like one in disguise."""
        try:
            if path.lower().endswith(".json"):
                content = json.loads(text, object_pairs_hook=Pairs)
            else:
                content = yield from _read_yaml(path, text)
        except (ValueError, RecursionError) as error:
            yield Finding("config", path, type(error).__name__, "can't be read as a config")
            return
        # only in configs/ are keys and paths MONAI's; elsewhere it is data, which is looked at all the same
        config = path.startswith("configs/") or "!extra/" in path
        strict = config and path.lower().rpartition("/")[2] != "metadata.json"
        try:
            yield from self._walk(content, path, "", strict)
        except RecursionError:
            yield Finding("config", path, "nesting", "nested too deeply to be looked into")

    def _walk(self, node: Any, where: str, key: str, strict: bool) -> Iterator[Finding]:
        if isinstance(node, Pairs):
            seen = set()
            for name, value in node:
                here = f"{where}::{name}"
                last = str(name).replace("#", "::").rpartition("::")[2].lstrip("+")
                if name in seen:
                    yield Finding("config", here, str(name), "a key that stands twice")
                seen.add(name)
                if strict and not _KEY.fullmatch(str(name)):
                    yield Finding("config", here, str(name), "a key with signs that MONAI could read as code")
                yield from self._item(last, value, here, strict)
        elif isinstance(node, list):
            for index, value in enumerate(node):
                yield from self._walk(value, f"{where}::{index}", key, strict)
        elif isinstance(node, str):
            yield from self._string(node, where, key, strict)

    def _item(self, last: str, value: Any, where: str, strict: bool) -> Iterator[Finding]:
        if last == "_target_":
            shown = value if isinstance(value, str) else f"a {type(value).__name__}"
            yield Finding("target", where, shown, self._judge_target(value))
            if isinstance(value, str):
                return
        elif last == "_mode_":
            reason = "" if value in MODES else "returns, defers or debugs the component instead of building it"
            yield Finding("config", where, f"_mode_: {value}", reason)
        elif len(last) > 2 and last[0] == last[-1] == "_" and last not in RESERVED and not _is_word(where, value):
            yield Finding("config", where, last, "a reserved name that isn't known")
        elif last == "spatial_shape" and isinstance(value, list):
            for item in value:
                if isinstance(item, str) and not _SHAPE.fullmatch(item):
                    yield Finding(
                        "expression", where, item, "a size is made of digits, n, p, + and *: MONAI evaluates it"
                    )
        elif last in READERS and not isinstance(value, Pairs):
            for name in value if isinstance(value, list) else [value]:
                yield Finding("reader", where, str(name), self._judge_reader(name))
        yield from self._walk(value, where, last, strict)

    def _string(self, text: str, where: str, key: str, strict: bool) -> Iterator[Finding]:
        if text.startswith("$"):
            if parse_import(text[1:]) is not None:
                reason = judge_import(text[1:], self.allow)
                if not reason and key != "imports":
                    reason = "an import outside of `imports`"
                yield Finding("import", where, text, reason)
            else:
                yield Finding("expression", where, text, judge_expression(text[1:], self.allow))
        elif text.startswith("%") and (strict or "::" in text or "#" in text):
            yield Finding("macro", where, text, "copies another part of a config, or another file, as text")
        elif text.startswith("@"):
            if text[1:3] == "::" or text[1:2] == "#" or is_dunder(text.rpartition("::")[2]):
                yield Finding("reference", where, text, "a relative reference, or a name with two underscores")
        elif key not in READERS and _DOTTED.fullmatch(text) and not _FILE.fullmatch(text):
            if strict or is_standard_module(text.split(".")[0]) or forbidden(text):
                yield Finding("name", where, text, self._judge_target(text) and self._judge_reader(text))
        elif not strict or key == "_desc_":
            return
        elif leads_elsewhere(text):
            yield Finding("path", where, text, "leads out of the bundle")
        elif {"", "."} & set(re.split(r"[/\\]", text)):
            yield Finding("path", where, text, "a text that would lead elsewhere with another one behind it")

    def _judge_target(self, name: Any) -> str:
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z]\w*(\.\w+)*", name, re.ASCII):
            return "no plain name of a class or function"
        if reason := forbidden(name):
            return reason
        if name.startswith("scripts.") and (reason := self.judge_own(name)):
            return reason
        wheel = _WHEEL.fullmatch(name)  # whose code is the site's to install, by the sha256 that it trusts
        listed = name if wheel is None else f"scripts.{wheel['name']}"
        return "" if self.allow.permits("targets", listed) else "the target isn't in the allow-list"

    def _judge_reader(self, name: Any) -> str:
        if name is None or (isinstance(name, str) and name in self.allow.readers):
            self.allow.permits("readers", str(name))
            return ""
        if isinstance(name, str) and name.rpartition("::")[2].lstrip("@") in READERS and name.startswith("@"):
            return ""  # judged where it is defined
        return "the class isn't in the allow-list"


def _is_word(where: str, value: Any) -> bool:
    """Whether an entry is a plain text at the top of a config: what a setting means; MONAI reads no key there so."""
    return where.count("::") == 1 and isinstance(value, str) and not value.startswith(("$", "@", "%"))


def _read_yaml(path: str, text: str) -> Generator[Finding, None, Any]:
    """Return the plain content of a YAML document, and yield its tags; nothing is constructed from them."""
    try:
        import yaml
    except ImportError as error:
        raise ValueError("PyYAML is missing") from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise ValueError("no YAML") from error
    findings: list[Finding] = []
    content = _plain(root, path, findings, set())
    yield from findings
    return content


def _plain(node: Any, path: str, findings: list[Finding], seen: set[int]) -> Any:
    if node is None:
        return None
    where = f"{path}:{node.start_mark.line + 1}"
    if node.id != "scalar" and id(node) in seen:  # walking through aliases of aliases could take forever
        findings.append(Finding("config", where, "alias", "a YAML alias of more than one value"))
        return None
    seen.add(id(node))
    if not node.tag.startswith("tag:yaml.org,2002:") or node.tag.startswith("tag:yaml.org,2002:python"):
        findings.append(Finding("config", where, node.tag, "a YAML tag that isn't plain data"))
    if node.id == "mapping":
        pairs = [(_plain(k, path, findings, seen), _plain(v, path, findings, seen)) for k, v in node.value]
        return Pairs(("" if key is None else str(key), value) for key, value in pairs)
    if node.id == "sequence":
        return [_plain(item, path, findings, seen) for item in node.value]
    return node.value
