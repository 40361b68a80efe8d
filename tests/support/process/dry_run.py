"""A dry run of a bundle, in this process."""

from __future__ import annotations

import contextlib
import io
import runpy
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from support.bundle.path import import_bundle
from support.bundle.run import BundleRun

PROGRAM = "/somewhere/site-packages/monai/bundle/__main__.py"


def dry_run(bundle: BundleRun, folder: Path, dataset_dir: Path, **settings: Any) -> str:
    """Return what a dry run said that ended well; a real run would write below `folder`."""
    flags = bundle.flags(dataset_dir=dataset_dir, bundle_root=bundle.folder, logging_file=False, **settings)
    flags += [f"--{name}_dir={folder / name}" for name in ("output", "ckpt", "cache")]
    path, hook, handler, said = list(sys.path), sys.excepthook, signal.getsignal(signal.SIGTERM), io.StringIO()
    temporary = folder.parent / "temporary"
    temporary.mkdir()
    import_bundle(bundle.name)
    command = [PROGRAM, "run", "--config_file", str(bundle.configs / "train.json"), *flags, "--dry_run=true"]
    try:
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
            patch.setattr(sys, "argv", command)
            patch.setattr(tempfile, "tempdir", str(temporary))
            with pytest.raises(SystemExit) as ended:
                runpy.run_module("monai.bundle.__main__", run_name="__main__")
            assert ended.value.code == 0 and sys.argv == command and sys.stdout is said
    finally:
        sys.path[:] = path
        sys.excepthook = hook
        signal.signal(signal.SIGTERM, handler)
        assert not list(temporary.glob("dry_run_*"))
    return said.getvalue()


def stages_of(said: str) -> dict[str, str]:
    """Return stage -> the rest of its line in the table that a dry run prints."""
    lines = said.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("stage "))
    rows = lines[first + 1 : lines.index("", first)]
    return {row[:26].strip(): row[26:] for row in rows}


def rehearsing() -> bool:
    """Return whether the bundle that was imported last still takes this process for a dry run."""
    return sys.modules["scripts.common.costs.pieces"].rehearsal() is not None
