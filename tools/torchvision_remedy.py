"""Let MONAI Label start beside a CPU-only torch: torchvision from PyPI is built for CUDA, and then can't be imported.

    python -m tools.torchvision_remedy VENV/bin/python

MONAI Label imports torchvision for a helper that writes pictures. Where torch has no CUDA, PyPI's torchvision finds its
compiled operators unusable and ends with "operator torchvision::nms does not exist". This puts two small files into the
environment that declare the operators' names, so that the import goes on; calling one is still an error. Where
torchvision can be imported as it is, nothing is done.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

MODULE = "torchvision_without_operators"
SOURCE = '''"""Written by tools/torchvision_remedy.py: declares torchvision's operators where they can't be loaded."""

import importlib.abc
import importlib.machinery
import sys


class _Declare(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "torchvision":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.submodule_search_locations:
            _declare(spec.submodule_search_locations[0])
        return spec


def _declare(folder):
    import pathlib

    import torch

    for library in pathlib.Path(folder).glob("_C.*"):
        try:
            torch.ops.load_library(str(library))
            return
        except OSError:
            pass
    names = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        names.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declare.kept = names


sys.meta_path.insert(0, _Declare())
'''
CHECK = "import torchvision"
PLACE = "import sysconfig; print(sysconfig.get_path('purelib'))"


def apply(python: Path) -> bool:
    """Put the remedy into the environment of `python` where it is needed; return whether it was.

    Raises:
        RuntimeError: torchvision can't be imported for another reason, or with the remedy either.
    """
    complaint = _run(python, CHECK).stderr
    if not complaint:
        return False
    if "operator torchvision::" not in complaint:
        raise RuntimeError(f"{python}: {complaint.strip().splitlines()[-1]}")
    folder = Path(_run(python, PLACE).stdout.strip())
    (folder / f"{MODULE}.py").write_text(SOURCE, encoding="utf-8")
    (folder / f"{MODULE}.pth").write_text(f"import {MODULE}\n", encoding="utf-8")
    complaint = _run(python, CHECK).stderr
    if complaint:
        raise RuntimeError(f"{python}: {complaint.strip().splitlines()[-1]}")
    return True


def _run(python: Path, code: str) -> subprocess.CompletedProcess:
    return subprocess.run([str(python), "-W", "ignore", "-c", code], capture_output=True, text=True, cwd=python.parent)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.torchvision_remedy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "python", type=Path, metavar="PYTHON", help="of the environment that MONAI Label is installed in"
    )
    given = parser.parse_args(arguments)
    try:
        done = apply(given.python.expanduser().absolute())
    except (OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("torchvision can be imported now" if done else "torchvision can be imported as it is: nothing done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
