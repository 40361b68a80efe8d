"""Every package that gets installed is pinned, and the same version everywhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.supply.lock_file import CUDA_LOCK, LOCK, canonical, read_lock
from tools.supply.wheels import PLATFORMS, target

ROOT = Path(__file__).resolve().parents[2]
# the first versions without the advisories that loading a checkpoint or a bundle would meet: SECURITY.md
FIXED = {"torch": (2, 10), "monai": (1, 6)}
CLIENTS = sorted(path.name.removesuffix("_requirements.txt") for path in ROOT.glob("tests/clients/*_requirements.txt"))


def pins(path: str) -> dict[str, str]:
    """Return version by canonical name of a file whose lines are all name==version."""
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    found = [line.split("==") for line in lines if line and not line.startswith("#")]
    named = {canonical(name): version for name, version in found}
    assert len(named) == len(found)
    return named


def test_the_lock_files_hold_what_the_requirements_name():
    locked: dict[str, set[str]] = {}
    for pin in read_lock(ROOT / LOCK):
        locked.setdefault(pin.name, set()).add(pin.version)
    assert {name: locked.get(name) for name in pins("requirements.txt")} == {
        name: {version} for name, version in pins("requirements.txt").items()
    }
    assert all(pin.name.startswith(("nvidia-", "cuda-", "triton")) for pin in read_lock(ROOT / CUDA_LOCK))


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
def test_every_platform_has_one_version_of_each_package(platform, python):
    place = target(platform, python)
    wanted = [pin.name for pin in read_lock(ROOT / LOCK) if place.wants(pin.marker)]
    assert len(wanted) == len(set(wanted)) and set(pins("requirements.txt")) <= set(wanted)
    cuda = [pin.name for pin in read_lock(ROOT / CUDA_LOCK) if place.wants(pin.marker)]
    assert bool(cuda) == platform.startswith("linux")


def test_no_index_or_place_of_a_machine_is_in_a_file_of_pins():
    files = [*ROOT.glob("requirements*"), *ROOT.glob("tests/clients/*.txt")]
    assert len(files) == 3 + 2 * len(CLIENTS)
    for file in files:
        assert not re.search(r"://|index-url|find-links|@ ", file.read_text(encoding="utf-8")), file


@pytest.mark.parametrize("client", CLIENTS)
def test_clients_constraints_hold_their_requirements(client):
    constrained = pins(f"tests/clients/{client}_constraints.txt")
    wanted = pins(f"tests/clients/{client}_requirements.txt")
    assert {name: constrained.get(name) for name in wanted} == wanted
    assert {pin.name for pin in read_lock(ROOT / CUDA_LOCK)} - {"cuda-bindings", "cuda-pathfinder"} <= set(constrained)


@pytest.mark.parametrize("client", CLIENTS)
def test_clients_requirements_are_those_of_the_repository_where_both_name_one(client):
    ours, theirs = pins("requirements.txt"), pins(f"tests/clients/{client}_requirements.txt")
    # what MONAI Label's own packages exclude
    excluded = {"numpy", "pydicom", "jsonschema"} if client == "monailabel" else set()
    shared = (ours.keys() & theirs.keys()) - excluded
    assert shared and {name: theirs[name] for name in shared} == {name: ours[name] for name in shared}


@pytest.mark.parametrize(
    "path", ["requirements.txt", *(f"tests/clients/{client}_constraints.txt" for client in CLIENTS)]
)
def test_versions_are_later_than_the_advisories(path):
    found = {name: tuple(map(int, pins(path)[name].split(".")[:2])) for name in FIXED}
    assert all(found[name] >= version for name, version in FIXED.items())
