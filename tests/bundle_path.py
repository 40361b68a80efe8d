"""Import a bundle's own code in tests, as MONAI Label does: every bundle calls its package `scripts`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

BUNDLES = Path(__file__).resolve().parents[1] / "bundles"


def import_bundle(name: str, module: str = "") -> ModuleType:
    """Return `scripts.<module>` (or `scripts`) of a bundle, whichever bundle was imported before.

    Only one bundle's `scripts` is in sys.modules at a time, so take what a test needs at the top of its file.
    """
    folder = str(BUNDLES / name)
    loaded = getattr(sys.modules.get("scripts"), "__file__", None)
    if loaded != str(Path(folder) / "scripts" / "__init__.py"):
        for known in [key for key in sys.modules if key == "scripts" or key.startswith("scripts.")]:
            del sys.modules[known]
    sys.path[:] = [entry for entry in sys.path if Path(entry).parent != BUNDLES]
    sys.path.insert(0, folder)
    return importlib.import_module(f"scripts.{module}" if module else "scripts")
