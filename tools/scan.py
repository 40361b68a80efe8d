"""List what a bundle would execute, without executing anything of it.

    python -m tools.scan BUNDLE                      a folder or a zip: what is there, and what isn't allowed
    python -m tools.scan BUNDLE --as-packed          a working copy without its caches, data, results and checkpoints
    python -m tools.scan BUNDLE --allow allow.json   another list of what is allowed; tools/scanning/allow.json is ours
    python -m tools.scan BUNDLE --json               for programs
    python -m tools.scan BUNDLE... --used            the allow-list that these bundles need, to be read and put in place

Exit code 0 where everything is in the allow-list, 1 where something isn't or can't be looked into, 2 where there is no
bundle or no list to read. Needs neither MONAI nor torch.
"""

from __future__ import annotations

import argparse
import json
import sys
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.errors import InputError
from common.launch.words import place

from .scanning.config import ConfigScanner
from .scanning.contents import judge_content
from .scanning.findings import AllowList, Finding, as_allow_list, read_allow_list
from .scanning.logging_conf import scan_logging
from .scanning.models.model_file import ARCHIVES, scan_model
from .scanning.python.modules import Modules
from .scanning.python.source import scan_python
from .scanning.python.targets import judge_definition
from .scanning.tree import Entry, Tree, read_tree
from .scanning.used import changes, needed_list, written

LARGEST_TEXT = 16 << 20  # bytes of a file that is no model
UNREADABLE = (OSError, EOFError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error)
PYTHON = (".py", ".pyw")
CONFIGS = (".json", ".yaml", ".yml")
LOGGING = (".conf", ".ini", ".cfg")
PROGRAMS = {b"\x7fELF": "ELF", b"MZ": "Windows", b"\xcf\xfa\xed\xfe": "Mach-O", b"\xce\xfa\xed\xfe": "Mach-O"}
PROGRAMS |= {b"\xca\xfe\xba\xbe": "Mach-O or Java", b"#!": "script", b"\0asm": "WebAssembly"}


def scan(source: Path, allow: AllowList, as_packed: bool = False) -> list[Finding]:
    """Return all that a bundle's folder or zip would execute or load, and all that doesn't belong into one.

    Raises:
        InputError: neither a folder nor a zip that can be read.
    """
    tree = read_tree(source, allow, as_packed)
    findings = list(tree.findings)
    modules = Modules(dict(_python(tree, findings)))
    configs = ConfigScanner(allow, lambda name: judge_definition(name, modules, allow))
    for path, entry in sorted(tree.entries.items()):
        try:
            findings += _scan_file(entry, allow, configs, modules)
        except UNREADABLE as error:
            findings.append(Finding("file", path, type(error).__name__, "can't be read"))
    return findings


def _python(tree: Tree, findings: list[Finding]) -> Iterator[tuple[str, bytes]]:
    for path, entry in sorted(tree.entries.items()):
        if path.lower().endswith(PYTHON) and entry.size <= LARGEST_TEXT:
            try:
                yield path, entry.read()
            except UNREADABLE as error:
                findings.append(Finding("file", path, type(error).__name__, "can't be read"))


def _scan_file(entry: Entry, allow: AllowList, configs: ConfigScanner, modules: Modules) -> Iterator[Finding]:
    path, lower = entry.path, entry.path.lower()
    if not allow.permits_file(path):
        yield Finding("file", path, f"{entry.size} bytes", "the kind of file isn't in the allow-list")
    if entry.executable:
        yield Finding("file", path, "executable", "a bundle's files need no right to be executed")
    with entry.open() as file:
        start = file.read(8)
        for signs, kind in PROGRAMS.items():
            if start.startswith(signs):
                yield Finding("file", path, kind, "a program inside of a bundle")
        file.seek(0)
        if lower.endswith((*ARCHIVES, ".safetensors")):
            yield from scan_model(path, file, allow, configs.scan)
            return
        if entry.size > LARGEST_TEXT:
            yield Finding("file", path, f"{entry.size} bytes", "too large to be looked into")
            return
        content = file.read()
    yield from judge_content(path, content)
    text = content.decode("utf-8-sig" if lower.endswith(LOGGING) else "utf-8", "replace")
    if path in modules.sources:
        yield from scan_python(path, modules, allow)
    elif lower.endswith(LOGGING):
        yield from scan_logging(path, text, allow)
    elif lower.endswith(CONFIGS):
        yield from configs.scan(path, text)


def describe(source: str, findings: list[Finding]) -> Iterator[str]:
    """Yield the lines of a report: each thing once with how often it is there, what is refused at the end."""
    for kind in dict.fromkeys(finding.kind for finding in findings if finding.allowed):
        places: dict[str, list[str]] = {}
        for finding in findings:
            if finding.kind == kind and finding.allowed:
                places.setdefault(finding.what, []).append(finding.where)
        yield f"{kind}: {len(places)} allowed"
        for what, where in sorted(places.items()):
            more = f" and {len(where) - 1} more" if len(where) > 1 else ""
            yield f"  {plain(what)}  ({plain(where[0])}{more})"
    refused = [finding for finding in findings if not finding.allowed]
    for finding in refused:
        yield f"REFUSED {finding.kind}: {plain(finding.what)}  ({plain(finding.where)}): {plain(finding.reason)}"
    yield f"{plain(source)}: {len(findings)} findings, {len(refused)} refused"


def plain(text: str, longest: int = 300) -> str:
    """Show a stranger's text so that a terminal takes no command from it and a look-alike letter is seen as one."""
    shown = text.encode("unicode_escape").decode("ascii")
    return shown if len(shown) <= longest else f"{shown[:longest]}..."


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=place, metavar="BUNDLE", nargs="+", help="a bundle's folder or zip")
    parser.add_argument("--allow", type=place, metavar="FILE", help="default tools/scanning/allow.json")
    parser.add_argument("--as-packed", action="store_true", help="leave out what tools.pack leaves out")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--used", action="store_true", help="print the allow-list that they need; implies --as-packed")
    given = parser.parse_args(arguments)
    try:
        allow = read_allow_list(*filter(None, [given.allow]))
        if given.used:
            content, changed = used(given.bundle, allow)
            print(written(content))
            print(*map(plain, changed), sep="\n", file=sys.stderr)
            return 0
        found = {bundle: scan(bundle, allow, given.as_packed) for bundle in given.bundle}
    except InputError as error:
        print(*(f"error: {plain(line)}" for line in error.problems), sep="\n", file=sys.stderr)
        return 2
    for bundle, findings in found.items():
        if given.json:
            print(json.dumps(_as_json(bundle, findings)))
        else:
            print(*describe(bundle.name, findings), sep="\n")
    return 0 if all(finding.allowed for findings in found.values() for finding in findings) else 1


def used(bundles: Sequence[Path], allow: AllowList) -> tuple[dict[str, Any], list[str]]:
    """Return the content of the allow-list that these bundles need together, and what changes by it."""
    trees = [read_tree(bundle, allow, as_packed=True) for bundle in bundles]
    sources = {path: content for tree in trees for path, content in _python(tree, [])}
    content: dict[str, Any] = {}
    current = replace(allow, asked=set())
    for _ in range(2):  # a target is asked for once its file's review is in the list
        for bundle in bundles:
            scan(bundle, current, as_packed=True)
        content = needed_list(current, sources)
        asked, current = current.asked, as_allow_list(content)
    return content, list(changes(allow, replace(current, asked=asked)))


def _as_json(bundle: Path, findings: list[Finding]) -> dict[str, Any]:
    items = [
        {"kind": f.kind, "where": f.where, "what": f.what, "reason": f.reason, "allowed": f.allowed} for f in findings
    ]
    return {"bundle": bundle.name, "allowed": all(f.allowed for f in findings), "findings": items}


if __name__ == "__main__":
    sys.exit(main())
