"""Renew requirements.lock and requirements-cuda.lock from the pins of requirements.txt.

    python -m tools.lock                        what requirements.txt names, the rest as it was where that still fits
    python -m tools.lock --upgrade              the newest versions of what it doesn't name
    python -m tools.lock --build torch-*.whl    and the sha256 of a build that the registry doesn't have

Needs `uv` on PATH (`pipx install uv`) and a package registry. Every file of every package is in it, so that one file
serves Linux, macOS and Windows and every Python from 3.11 on. What torch's build for Linux brings for GPUs from NVIDIA
stands by itself in requirements-cuda.lock, because other builds do without.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from common.errors import InputError, plain_input_errors
from common.files.atomic_write import write_atomic
from common.launch.words import place

from .supply.lock_file import CUDA_LOCK, LOCK, Pin, canonical, lock_text, parse_lock, read_lock, with_other_builds

ROOT = Path(__file__).resolve().parents[1]
OLDEST_PYTHON = "3.11"
CUDA = ("nvidia-", "cuda-", "triton")
ABOUT = """Every package of requirements.txt and what they bring, with the sha256 of all files. Written by
`python -m tools.lock`; install with: pip install --require-hashes -r requirements.lock"""
ABOUT_CUDA = """What the torch of package registries for Linux needs for GPUs from NVIDIA, beside requirements.lock.
Written by `python -m tools.lock`; builds for CPUs or of another index do without."""


def renew(root: Path, upgrade: bool = False, builds: list[Path] | None = None) -> list[Pin]:
    """Write both lock files of `root` and return all pins.

    Raises:
        InputError: uv is missing or finds no answer, or a build is of no pinned package.
    """
    files = [root / name for name in (LOCK, CUDA_LOCK)]
    before = [pin for file in files if file.is_file() for pin in read_lock(file)]
    pins = with_other_builds(_compile(root / "requirements.txt", [] if upgrade else before), before)
    pins = add_builds(pins, builds or [])
    for file, about, cuda in zip(files, (ABOUT, ABOUT_CUDA), (False, True), strict=True):
        write_atomic(file, lock_text([pin for pin in pins if pin.name.startswith(CUDA) == cuda], about))
    return pins


def add_builds(pins: list[Pin], builds: list[Path]) -> list[Pin]:
    """Add the sha256 of wheels to the pins that they are builds of: torch-2.13.0+cpu-... to torch 2.13.0."""
    for build in builds:
        try:
            with build.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise InputError(f"{build}: can't be read ({error.strerror}); wanted a wheel") from error
        name, version = (*build.name.split("-"), "")[:2]
        of = (canonical(name), version.partition("+")[0])
        if of not in {(pin.name, pin.version) for pin in pins}:
            raise InputError(f"{build}: found {' '.join(of)}; wanted a wheel of a package and version that is pinned")
        pins = [replace(pin, hashes=pin.hashes | {found}) if (pin.name, pin.version) == of else pin for pin in pins]
    return pins


def _compile(requirements: Path, before: list[Pin]) -> list[Pin]:
    """Let uv find all packages for all platforms; what stood in the lock files before is preferred."""
    with tempfile.TemporaryDirectory(prefix="lock-") as folder:
        output = Path(folder) / LOCK
        if before:
            output.write_text(lock_text(before, ""), encoding="utf-8")
        command = [
            "uv",
            "pip",
            "compile",
            "--universal",
            "--generate-hashes",
            "--no-header",
            "--no-annotate",
            "--quiet",
        ]
        command += ["--no-config", "--python-version", OLDEST_PYTHON, str(requirements), "--output-file", str(output)]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except FileNotFoundError as error:
            raise InputError("uv: not found; wanted it on PATH (pipx install uv)") from error
        if done.returncode:
            said = [line.strip() for line in done.stderr.splitlines() if line.strip()] or ["no word"]
            raise InputError([f"uv: {line}" for line in said])
        return parse_lock(output.read_text(encoding="utf-8"), "uv's answer")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.lock", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--upgrade", action="store_true", help="newest versions of what requirements.txt doesn't name")
    parser.add_argument("--build", type=place, nargs="+", default=[], metavar="WHEEL", help="not of the registry")
    given = parser.parse_args(arguments)
    pins = renew(ROOT, given.upgrade, given.build)
    print(f"{LOCK}, {CUDA_LOCK}: {len(pins)} packages, {sum(len(pin.hashes) for pin in pins)} files")
    return 0


if __name__ == "__main__":
    plain_input_errors()
    sys.exit(main())
