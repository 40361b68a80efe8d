"""Copies of the repository's sources without what runs and Python have left in them."""

from __future__ import annotations

import shutil
from pathlib import Path

LEFT_BY_RUNS = {"models", "eval", "data", "cache"}  # of a bundle's own folder: a room of the sources may be called so


def copy_sources(source: Path, target: Path, kept: tuple[str, ...] = ()) -> Path:
    """Copy a bundle's folder, or `common`, as a clone has it; links stay links.

    Args:
        kept: folders of LEFT_BY_RUNS that are copied all the same.
    """
    left = LEFT_BY_RUNS - set(kept) if (source / "configs").is_dir() else set()

    def ignore(folder: str, names: list[str]) -> set[str]:
        return {name for name in names if name == "__pycache__" or (Path(folder) == source and name in left)}

    return Path(shutil.copytree(source, target, symlinks=True, ignore=ignore))
