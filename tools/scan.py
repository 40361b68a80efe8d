"""List what a bundle would execute, without executing anything of it.

    python -m tools.scan BUNDLE                      a folder or a zip: what is there, and what isn't allowed
    python -m tools.scan BUNDLE --as-packed          a working copy without its caches, data, results and checkpoints
    python -m tools.scan BUNDLE --allow allow.json   another list of what is allowed; tools/scanning/allow.json is ours
    python -m tools.scan BUNDLE --json               for programs

Exit code 0 where everything is in the allow-list, 1 where something isn't or can't be looked into, 2 where there is no
bundle or no list to read. Needs neither MONAI nor torch.
"""

from __future__ import annotations

import argparse
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from common.errors import InputError
from common.launch.words import place

from .scanning.config import ConfigScanner
from .scanning.findings import AllowList, Finding, read_allow_list
from .scanning.logging_conf import scan_logging
from .scanning.model_file import ARCHIVES, scan_model
from .scanning.python_source import defined_names, scan_python
from .scanning.tree import Entry, Tree, read_tree

LARGEST_TEXT = 16 << 20  # bytes of a config or a Python file
CONFIGS = (".json", ".yaml", ".yml")
LOGGING = (".conf", ".ini", ".cfg")
PROGRAMS = {b"\x7fELF": "ELF", b"MZ": "Windows", b"\xcf\xfa\xed\xfe": "Mach-O", b"\xce\xfa\xed\xfe": "Mach-O"}
PROGRAMS |= {b"\xca\xfe\xba\xbe": "Mach-O or Java", b"#!": "script", b"\0asm": "WebAssembly"}
HIDDEN = {b"PK\x03\x04": "archive", b"Rar!": "archive", b"7z\xbc\xaf": "archive", b"\xfd7zXZ": "archive"}
HIDDEN |= {b"\x80\x04\x95": "pickle", b"\x80\x05\x95": "pickle", b"\x80\x02}": "pickle", b"\x80\x02c": "pickle"}


def scan(source: Path, allow: AllowList, as_packed: bool = False) -> list[Finding]:
    """Return all that a bundle's folder or zip would execute or load, and all that doesn't belong into one.

    Raises:
        InputError: neither a folder nor a zip that can be read.
    """
    tree = read_tree(source, allow, as_packed)
    configs = ConfigScanner(allow, lambda name: is_defined(tree, name))
    findings = list(tree.findings)
    for path, entry in sorted(tree.entries.items()):
        try:
            findings += _scan_file(entry, allow, configs)
        except (OSError, EOFError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile) as error:
            findings.append(Finding("file", path, type(error).__name__, "can't be read"))
    return findings


def is_defined(tree: Tree, name: str, depth: int = 8) -> bool:
    """Whether `scripts.module.Name` is a class or function that the bundle's own Python defines."""
    module, _, last = name.rpartition(".")
    folder = module.replace(".", "/")
    path = next((path for path in (f"{folder}.py", f"{folder}/__init__.py") if path in tree.entries), None)
    if path is None or not depth or tree.entries[path].size > LARGEST_TEXT:
        return False
    found = defined_names(tree.entries[path].read())
    origin = found.get(last)
    if not origin:
        return last in found
    level = len(origin) - len(origin.lstrip("."))
    package = path.split("/")[:-level]
    return is_defined(tree, ".".join([*package, origin[level:]]), depth - 1)


def _scan_file(entry: Entry, allow: AllowList, configs: ConfigScanner) -> Iterator[Finding]:
    path, lower = entry.path, entry.path.lower()
    if not allow.permits_file(path):
        yield Finding("file", path, f"{entry.size} bytes", "the kind of file isn't in the allow-list")
    if entry.executable:
        yield Finding("file", path, "executable", "a bundle's files need no right to be executed")
    with entry.open() as file:
        start = file.read(8)
        model = lower.endswith((*ARCHIVES, ".safetensors"))
        for signs, kind in (PROGRAMS if model else PROGRAMS | HIDDEN).items():
            if start.startswith(signs):
                yield Finding("file", path, kind, "a program, an archive or a pickle inside of a bundle")
        file.seek(0)
        if model:
            yield from scan_model(path, file, allow, configs.scan)
            return
        if not lower.endswith((".py", ".pyw", *CONFIGS, *LOGGING)):
            return
        if entry.size > LARGEST_TEXT:
            yield Finding("file", path, f"{entry.size} bytes", "too large to be looked into")
            return
        content = file.read()
    if lower.endswith((".py", ".pyw")):
        yield from scan_python(path, content, allow)
        return
    try:
        text = content.decode("utf-8-sig" if lower.endswith(LOGGING) else "utf-8")
    except UnicodeDecodeError:
        yield Finding("file", path, "encoding", "no UTF-8")
        return
    yield from scan_logging(path, text, allow) if lower.endswith(LOGGING) else configs.scan(path, text)


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
    parser.add_argument("bundle", type=place, metavar="BUNDLE", help="a bundle's folder or zip")
    parser.add_argument("--allow", type=place, metavar="FILE", help="default tools/scanning/allow.json")
    parser.add_argument("--as-packed", action="store_true", help="leave out what tools.pack leaves out")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(arguments)
    try:
        allow = read_allow_list(*filter(None, [given.allow]))
        findings = scan(given.bundle, allow, given.as_packed)
    except InputError as error:
        print(*(f"error: {plain(line)}" for line in error.problems), sep="\n", file=sys.stderr)
        return 2
    if given.json:
        items = [
            {"kind": f.kind, "where": f.where, "what": f.what, "reason": f.reason, "allowed": f.allowed}
            for f in findings
        ]
        print(json.dumps({"bundle": given.bundle.name, "allowed": all(f.allowed for f in findings), "findings": items}))
    else:
        print(*describe(given.bundle.name, findings), sep="\n")
    return 0 if all(finding.allowed for finding in findings) else 1


if __name__ == "__main__":
    sys.exit(main())
