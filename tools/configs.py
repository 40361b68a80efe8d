"""One source for what the configs of all bundles have in common, and one form for all of them.

    python -m tools.configs            write into every bundle's configs what tools/templates says
    python -m tools.configs --check    say which files that would change; exit status 1 where there are any

A template holds the keys that every bundle shares; `<bundle>` in a text stands for the bundle's name. Keys of its own
stay as they are, wherever they stand, also inside a section that it shares (`train`, `validate`). What a template says
of `key?` is what a bundle begins with that has no such key.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.errors import InputError, plain_input_errors
from common.files.atomic_write import write_atomic

ROOT = Path(__file__).resolve().parents[1]
TEMPLATES = Path(__file__).parent / "templates"
WIDTH, INDENT = 120, "    "
COMPONENT, DEFAULT = "_target_", "?"


def shared_config(bundle: Path, name: str) -> str:
    """Return the text of a bundle's config with what its template says.

    Args:
        bundle: folder of the bundle; the file may be missing.
        name: of the file, such as train.json.

    Raises:
        InputError: the file is no JSON object; or as `merge`.
    """
    path = bundle / "configs" / name
    text = path.read_text(encoding="utf-8") if path.is_file() else "{}"
    template = (TEMPLATES / name).read_text(encoding="utf-8").replace("<bundle>", bundle.name)
    try:
        own = json.loads(text)
    except ValueError as error:
        raise InputError(f"{path}: no JSON ({error}); wanted a config") from error
    return format_config(
        merge(own, json.loads(template)), line_starts(text) or line_starts(template.replace('?":', '":'))
    )


def merge(own: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    """Return `own` with what is shared: an object is merged, anything else replaced; a new key stands behind the key
    that comes before it in the template.

    Raises:
        InputError: a component is one class in `own` and another in the template: a mixture would be neither.
    """
    result = dict(own)
    before = None
    for name, value in shared.items():
        key = name.removesuffix(DEFAULT)
        if name != key and key in result:
            before = key
            continue
        if isinstance(value, dict):
            here = result[key] if isinstance(result.get(key), dict) else {}
            classes = [part[COMPONENT] for part in (here, value) if COMPONENT in part]
            if len(set(classes)) > 1:
                raise InputError(f"{key}: is a {classes[0]}; wanted the template's {classes[1]}, or {key}? there")
            value = merge(here, value)
        if key in result:
            result[key] = value
        else:
            place = 0 if before is None else list(result).index(before) + 1
            items = list(result.items())
            result = dict([*items[:place], (key, value), *items[place:]])
        before = key
    return result


def line_starts(text: str) -> set[str]:
    """Return the top-level keys that begin a line: which settings stand together on one is for people to say."""
    return set(re.findall(rf'^{INDENT}"([^"]+)":', text, re.MULTILINE))


def format_config(content: dict[str, Any], starts: set[str]) -> str:
    """Return a config as text: sections open, components and lists filled up to the width."""
    lines, entries = ["{"], list(content.items())
    current = ""
    texts: list[tuple[str, str, bool]] = []  # key, text, whether it may share a line
    for number, (key, value) in enumerate(entries):
        comma = "," if number + 1 < len(entries) else ""
        text = f"{json.dumps(key)}: {_value(value, INDENT, len(json.dumps(key)) + 2 + len(comma))}{comma}"
        if texts and key == f"_{texts[-1][0]}_":  # a word stays beside its number
            texts[-1] = (texts[-1][0], f"{texts[-1][1]} {text}", texts[-1][2])
        else:
            texts.append((key, text, not isinstance(value, dict) and "\n" not in text))
    for key, text, short in texts:
        together = short and key not in starts
        if current and together and len(f"{current} {text}") <= WIDTH:
            current += f" {text}"
        else:
            lines += [current] if current else []
            current = INDENT + text
    return "\n".join([*lines, current, "}"]) + "\n"


def _value(value: Any, indent: str, used: int) -> str:
    """Return a value behind `used` characters of its line, which is indented by `indent`."""
    flat = json.dumps(value, ensure_ascii=False)
    if len(indent) + used + len(flat) <= WIDTH and not _is_section(value):
        return flat
    if not isinstance(value, dict | list) or not value:
        return flat
    inner = indent + INDENT
    if _is_section(value) or (isinstance(value, list) and any(isinstance(entry, dict) for entry in value)):
        return _opened(value, indent, inner)
    return _filled(value, indent, inner, used)


def _is_section(value: Any) -> bool:
    return isinstance(value, dict) and COMPONENT not in value and any(isinstance(v, dict) for v in value.values())


def _opened(value: Any, indent: str, inner: str) -> str:
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    lines: list[str] = []
    shared = False  # whether the last line holds short entries of a section, and has room for another
    for entry, text in zip(value.values() if isinstance(value, dict) else value, _entries(value, inner), strict=True):
        short = isinstance(value, dict) and not isinstance(entry, dict) and "\n" not in text
        if short and shared and len(f"{lines[-1]} {text}") <= WIDTH:
            lines[-1] += f" {text}"
        else:
            lines.append(f"{inner}{text}")
        shared = short
    return "\n".join([opening, *lines, f"{indent}{closing}"])


def _filled(value: Any, indent: str, inner: str, used: int) -> str:
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    lines = [opening]
    room = WIDTH - len(indent) - used
    for number, text in enumerate(_entries(value, inner)):
        tail = 1 if number + 1 == len(value) else 0  # the closing bracket
        gap = "" if lines[-1] == opening else " "
        first = text.partition("\n")[0]
        open_list = first.endswith("[")  # its items follow on lines of their own
        if len(f"{lines[-1]}{gap}{first}") + tail <= room and ("\n" not in text or open_list):
            lines[-1] += gap + text
        else:
            lines.append(f"{inner}{text}")
            room = WIDTH
    return "\n".join(lines) + closing


def _entries(value: Any, inner: str) -> Iterator[str]:
    """Yield the entries of a dict or list as texts, each with its comma."""
    items = value.items() if isinstance(value, dict) else ((None, entry) for entry in value)
    for number, (key, entry) in enumerate(items):
        comma = "," if number + 1 < len(value) else ""
        name = "" if key is None else f"{json.dumps(key)}: "
        yield f"{name}{_value(entry, inner, len(name) + len(comma) + 1)}{comma}"


def main(arguments: list[str] | None = None) -> int:
    """Write or check the configs; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.configs", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 where a file would change")
    given = parser.parse_args(arguments)
    folders = sorted(path.parents[1] for path in (ROOT / "bundles").glob("*/configs/metadata.json"))
    changed = []
    for bundle in folders:
        for template in sorted(TEMPLATES.glob("*.json")):
            path = bundle / "configs" / template.name
            text = shared_config(bundle, template.name)
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                changed.append(path.relative_to(ROOT).as_posix())
                if not given.check:
                    write_atomic(path, text)
    for name in changed:
        print(f"{name}: {'differs from tools/templates' if given.check else 'written'}")
    return int(given.check and bool(changed))


if __name__ == "__main__":
    plain_input_errors()
    sys.exit(main())
