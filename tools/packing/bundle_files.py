"""What of a bundle's folder goes into a package: its sources as plain files, and nothing that a run left there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from common.errors import InputError

FOLDERS = ("configs", "docs", "scripts")
REQUIRED = ("LICENSE", "configs/metadata.json", "configs/inference.json", "docs/README.md", "scripts/__init__.py")
SUFFIXES = {".json", ".yaml", ".yml", ".conf", ".py", ".html", ".md", ".txt", ".png", ".svg", ".jpg"}
SKIPPED = {"__pycache__"}  # and whatever is hidden
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_VERSION = re.compile(r"\d+\.\d+\.\d+[A-Za-z0-9.+-]*")


def repository_of(bundle: Path) -> Path:
    """Return the folder that holds `bundles/<name>`; links inside a bundle may lead to anything in it."""
    return bundle.resolve().parents[1]


def collect_files(bundle: Path) -> dict[str, Path]:
    """Return the files to pack by their name in the package ("scripts/common/data/datalist.py"); links are followed.

    Raises:
        InputError: one line for each file that is missing, of a kind that no bundle holds (data, weights, compiled
            code), or behind a link that leads out of the repository or in a circle.
    """
    if not bundle.is_dir():
        raise InputError(f"{bundle}: no such folder; wanted a bundle, such as bundles/rrl_medsam")
    files: dict[str, Path] = {}
    problems: list[str] = []
    if (bundle / "LICENSE").is_file():
        files["LICENSE"] = (bundle / "LICENSE").resolve()
    for name in FOLDERS:
        if (bundle / name).is_dir():
            _collect(bundle / name, name, repository_of(bundle), (), files, problems)
    problems += [f"{bundle / name}: no such file; wanted in every bundle" for name in REQUIRED if name not in files]
    if problems:
        raise InputError(problems)
    return dict(sorted(files.items()))


def read_metadata(bundle: Path) -> dict[str, Any]:
    """Return configs/metadata.json of a bundle, whose folder name and version can be part of a file name.

    Raises:
        InputError: no JSON object, or a name or version that is none.
    """
    path = bundle / "configs" / "metadata.json"
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
        version = metadata["version"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: can't be read ({error!r}); wanted a JSON object with a version") from error
    name = bundle.resolve().name
    problems = []
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        problems.append(f"{path}: version {version!r}; wanted three numbers, such as '0.1.0'")
    if not _NAME.fullmatch(name):
        problems.append(f"{bundle}: folder name {name!r}; wanted letters, digits, - and _ alone")
    if problems:
        raise InputError(problems)
    return metadata


def _collect(
    folder: Path, name: str, repository: Path, above: tuple[Path, ...], files: dict[str, Path], problems: list[str]
) -> None:
    real = folder.resolve()
    if not real.is_relative_to(repository):
        problems.append(f"{folder}: leads out of {repository.name}; wanted a link inside the repository")
        return
    if real in above:
        problems.append(f"{folder}: leads back to a folder that holds it; wanted no circle of links")
        return
    for entry in sorted(folder.iterdir()):
        inside = f"{name}/{entry.name}"
        if entry.name in SKIPPED or entry.name.startswith("."):
            continue
        if entry.is_dir():
            _collect(entry, inside, repository, (*above, real), files, problems)
        elif not entry.resolve().is_relative_to(repository):
            problems.append(f"{entry}: leads out of {repository.name}; wanted a link inside the repository")
        elif not entry.is_file():
            problems.append(f"{entry}: a link to nothing or a special file; wanted a plain file")
        elif entry.suffix not in SUFFIXES:
            problems.append(f"{entry}: {entry.suffix or 'no'} suffix; wanted one of {', '.join(sorted(SUFFIXES))}")
        else:
            files[inside] = entry.resolve()
