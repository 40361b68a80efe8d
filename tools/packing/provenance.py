"""provenance.json: which sources and versions a package was made from, without a machine, a path or a time."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = "provenance.json"
VERSIONS = ("torch", "monai", "numpy", "pytorch-ignite", "safetensors", "cyclonedx-python-lib")


def source_of(bundle: Path) -> dict[str, Any]:
    """Return the commit that a bundle's folder is checked out from, and whether its sources differ from it.

    Returns:
        {"commit": hex or None where git or a repository isn't there, "changed": bool or None}
    """
    commit = _git(bundle, "rev-parse", "HEAD")
    tracked = _git(bundle, "ls-files", "--error-unmatch", "configs/metadata.json")
    if commit is None or tracked is None:
        return {"commit": None, "changed": None}
    # the bundle and what its links lead to; what git ignores, such as models, is no source
    state = _git(bundle, "status", "--porcelain", "--", ".", ":(top)common")
    return {"commit": commit.strip(), "changed": None if state is None else bool(state.strip())}


def write_provenance(
    folder: Path,
    metadata: Mapping[str, Any],
    source: Mapping[str, Any],
    sums: Mapping[str, str],
    model: Mapping[str, Any],
) -> None:
    """Write provenance.json into the folder of a package.

    Args:
        source: as `source_of` returns it.
        sums: sha256 of the package's files by their path in it; those of configs and models are noted.
        model: what there is to say about its models.
    """
    from common.run.manifest import package_versions

    noted = {name: sums[name] for name in sorted(sums) if name.startswith(("configs/", "models/"))}
    content = {
        "bundle": folder.name,
        "version": metadata["version"],
        "source": dict(source),
        "made_with": {"python": ".".join(platform.python_version_tuple()[:2]), **package_versions(VERSIONS)},
        "model": dict(model),
        "sha256": noted,
    }
    (folder / FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
