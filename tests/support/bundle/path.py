"""Import a bundle's own code in tests, as MONAI Label does: every bundle calls its package `scripts`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

BUNDLES = Path(__file__).resolve().parents[3] / "bundles"


_known: dict[str, dict[str, ModuleType]] = {}  # what each bundle has imported, while another one's is in place


def import_bundle(name: str, module: str = "") -> ModuleType:
    """Return `scripts.<module>` (or `scripts`) of a bundle, whichever bundle was imported before.

    Only one bundle's `scripts` is in sys.modules at a time. The others' are kept aside, so that a module stays the same
    object however often the bundles change: what a test patches is what another file has imported.
    """
    folder = BUNDLES / name
    current = getattr(sys.modules.get("scripts"), "__file__", None)
    if current != str(folder / "scripts" / "__init__.py"):
        loaded = [key for key in sys.modules if key == "scripts" or key.startswith("scripts.")]
        aside = {key: sys.modules.pop(key) for key in loaded}
        if current is not None:
            _known[Path(current).parents[1].name] = aside
        sys.modules.update(_known.get(name, {}))
    sys.path[:] = [entry for entry in sys.path if Path(entry).parent != BUNDLES]
    sys.path.insert(0, str(folder))
    return importlib.import_module(f"scripts.{module}" if module else "scripts")
