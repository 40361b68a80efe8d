"""Wheels of all that a lock file names, for this machine or another kind, each with a sha256 that is in it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from email.parser import HeaderParser
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename

from common.errors import InputError

from .lock_file import Pin, canonical

# torch stands outside of pip's check of hashes: where builds are offered beside the registry, pip with hashes would
# take the registry's (the place beside it says none), without them the one that is meant
BY_BUILD = ("torch",)
_LINUX = (28, 27, 26, 24, 17, 12, 5)  # glibc 2.x of the wheels that a glibc 2.28 or newer takes


@dataclass(frozen=True)
class Target:
    """The machine that wheels are for: pip's options, and what markers in lock files are compared with."""

    name: str = "this machine"
    options: tuple[str, ...] = ()
    markers: Mapping[str, str] = field(default_factory=dict)

    def wants(self, marker: Marker | str | None) -> bool:
        """Whether a requirement with this environment marker is wanted there."""
        if not marker:
            return True
        marker = Marker(marker) if isinstance(marker, str) else marker
        return marker.evaluate({**self.markers, "extra": ""})  # for all else as on this machine


def target(platform: str | None = None, python: str | None = None) -> Target:
    """Return a kind of machine by its name in `PLATFORMS`, with Python `python` ("3.12"); None: as this one.

    Raises:
        InputError: another platform, or no version.
    """
    python = python or "{}.{}".format(*sys.version_info)
    if python.count(".") != 1 or not python.replace(".", "").isdecimal():
        raise InputError(f"python: found {python!r}; wanted a version such as 3.11")
    if platform is None:
        if python != "{}.{}".format(*sys.version_info):
            raise InputError(f"python {python}: wanted together with a platform of {', '.join(PLATFORMS)}")
        return Target()
    if platform not in PLATFORMS:
        raise InputError(f"platform: found {platform!r}; wanted one of {', '.join(PLATFORMS)}")
    tags, markers = PLATFORMS[platform]
    options = [f"--platform={tag}" for tag in tags]
    options += [f"--python-version={python}", "--implementation=cp", f"--abi=cp{python.replace('.', '')}"]
    options += ["--abi=abi3", "--abi=none"]
    versions = {"python_version": python, "python_full_version": f"{python}.0", "implementation_version": f"{python}.0"}
    return Target(f"{platform}, Python {python}", tuple(options), {**markers, **versions})


def _system(name: str, os_name: str, sys_platform: str, machine: str) -> dict[str, str]:
    names = {"platform_system": name, "os_name": os_name, "sys_platform": sys_platform, "platform_machine": machine}
    return {**names, "platform_python_implementation": "CPython", "implementation_name": "cpython"}


def _glibc(machine: str) -> tuple[str, ...]:
    return (*(f"manylinux_2_{minor}_{machine}" for minor in _LINUX), f"manylinux2014_{machine}", f"linux_{machine}")


PLATFORMS = {
    "linux-x86_64": (
        (*_glibc("x86_64"), "manylinux2010_x86_64", "manylinux1_x86_64"),
        _system("Linux", "posix", "linux", "x86_64"),
    ),
    "linux-aarch64": (_glibc("aarch64"), _system("Linux", "posix", "linux", "aarch64")),
    "macos-arm64": (("macosx_14_0_arm64", "macosx_14_0_universal2"), _system("Darwin", "posix", "darwin", "arm64")),
    "windows-amd64": (("win_amd64",), _system("Windows", "nt", "win32", "AMD64")),
}


def fetch_wheels(pins: Iterable[Pin], cuda: Iterable[Pin], folder: Path, place: Target) -> list[Path]:
    """Bring the wheel of every pin that `place` wants; those of `cuda` too where the torch that came wants them.

    pip does the fetching, as it is configured; nothing is built, installed or run.

    Raises:
        InputError: a package has no wheel for that machine, or one with a sha256 that the pins don't know.
    """
    wanted = [pin for pin in pins if place.wants(pin.marker)]
    for pin in (pin for pin in wanted if pin.name in BY_BUILD):
        _pip_download([f"{pin.name}=={pin.version}"], folder, place, "--no-deps")
        [wheel] = [wheel for wheel in folder.glob("*.whl") if wheel_name(wheel)[0] == pin.name]
        if (found := sha256_of(wheel)) not in pin.hashes:
            raise InputError(
                f"{wheel.name}: sha256 {found} is none of {pin.name} {pin.version} in the lock file; wanted a build "
                "that is in it: python -m tools.lock --build WHEEL adds yours"
            )
        if any(canonical(name).startswith("nvidia-") for name in requirements_of(wheel, place)):
            wanted += [extra for extra in cuda if place.wants(extra.marker)]
    lines = [f"{pin.name}=={pin.version} {' '.join(f'--hash=sha256:{h}' for h in sorted(pin.hashes))}"
             for pin in wanted if pin.name not in BY_BUILD]  # fmt: skip
    if lines:
        with tempfile.TemporaryDirectory(prefix="wheels-") as scratch:
            file = Path(scratch) / "wanted.txt"
            file.write_text("\n".join(lines) + "\n", encoding="utf-8")
            _pip_download(["--requirement", str(file)], folder, place, "--no-deps", "--require-hashes")
    return sorted(folder.glob("*.whl"))


def wheel_name(wheel: Path) -> tuple[str, str]:
    """Return the canonical name and the version of a wheel, its local part (+cpu) included, from its file name."""
    name, version, _, _ = parse_wheel_filename(wheel.name)
    return str(name), str(version)


def requirements_of(wheel: Path, place: Target) -> list[str]:
    """Return the names of what a wheel says that it needs on that machine, without extras."""
    with zipfile.ZipFile(wheel) as archive:
        [metadata] = [
            name for name in archive.namelist() if name.endswith(".dist-info/METADATA") and name.count("/") == 1
        ]
        headers = HeaderParser().parsestr(archive.read(metadata).decode("utf-8"))
    found = [Requirement(line) for line in headers.get_all("Requires-Dist") or []]
    return [requirement.name for requirement in found if place.wants(requirement.marker)]


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pip_download(what: list[str], folder: Path, place: Target, *options: str) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--only-binary=:all:", "--dest", str(folder), *place.options, *options, *what]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        raise InputError([f"wheels for {place.name}: {line}" for line in said or ["pip download failed"]])
