"""requirements.lock: every package with its version, marker and the sha256 of all its files, as pip and uv write it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from common.errors import InputError

LOCK, CUDA_LOCK = "requirements.lock", "requirements-cuda.lock"
_PIN = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[^\s;\\]+)\s*(?:;\s*(?P<marker>[^\\]*?))?\s*")
_HASH = re.compile(r"sha256:(?P<hash>[0-9a-f]{64})")


@dataclass(frozen=True)
class Pin:
    """A package: canonical name, version, environment marker ("" where it is always wanted), sha256 of its files."""

    name: str
    version: str
    marker: str
    hashes: frozenset[str]

    def __str__(self) -> str:
        marker = f" ; {self.marker}" if self.marker else ""
        hashes = "".join(f" \\\n    --hash=sha256:{found}" for found in sorted(self.hashes))
        return f"{self.name}=={self.version}{marker}{hashes}\n"


def canonical(name: str) -> str:
    """Return a package's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def parse_lock(text: str, source: str) -> list[Pin]:
    """Return the pins of a lock file.

    Raises:
        InputError: one line for each entry that is none, or has no hash.
    """
    pins, problems = [], []
    lines = "".join(line for line in text.splitlines(keepends=True) if not line.lstrip().startswith("#"))
    for entry in filter(str.strip, re.split(r"(?<!\\)\n", lines)):
        requirement, *hashes = re.split(r"\s+--hash=", entry.replace("\\\n", " ").strip())
        found = _PIN.fullmatch(requirement)
        if not found or not hashes or not all(map(_HASH.fullmatch, hashes)):
            problems.append(f"{source}: {requirement[:80]!r}; wanted name==version with --hash=sha256:...")
            continue
        marker = found["marker"] or ""
        pins.append(
            Pin(canonical(found["name"]), found["version"], marker, frozenset(h[len("sha256:") :] for h in hashes))
        )
    if problems or not pins:
        raise InputError(problems or f"{source}: empty; wanted a line for each package")
    return pins


def read_lock(path: Path) -> list[Pin]:
    """Return the pins of a file; InputError where it can't be read or is no lock file."""
    try:
        return parse_lock(path.read_text(encoding="utf-8"), path.name)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: can't be read ({error}); wanted a lock file, see python -m tools.lock") from error


def lock_text(pins: Iterable[Pin], heading: str) -> str:
    """Return the content of a lock file: `heading` as comments, then the pins by name."""
    comments = "".join(f"# {line}\n" for line in heading.splitlines())
    return comments + "".join(map(str, sorted(pins, key=lambda pin: (pin.name, pin.version, pin.marker))))


def with_other_builds(pins: Iterable[Pin], before: Iterable[Pin]) -> list[Pin]:
    """Keep hashes of builds that the registry doesn't have, as long as the version stays."""
    known = {(pin.name, pin.version): pin.hashes for pin in before}
    return [replace(pin, hashes=pin.hashes | known.get((pin.name, pin.version), frozenset())) for pin in pins]
