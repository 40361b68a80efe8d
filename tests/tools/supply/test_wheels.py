from __future__ import annotations

import os

import pytest

from common.errors import InputError
from support.data.tiny_wheels import make_wheel
from tools.supply.lock_file import Pin
from tools.supply.wheels import PLATFORMS, Target, fetch_wheels, requirements_of, target, wheel_name


@pytest.fixture
def offered(tmp_path, monkeypatch):
    """Folder that stands for the registry; pip knows no other."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "offered"))
    return tmp_path / "offered"


def fetched(folder, *arguments) -> list[str]:
    folder.mkdir(exist_ok=True)
    return [wheel.name.split("-py3")[0] for wheel in fetch_wheels(*arguments[:2], folder, *arguments[2:])]


def test_what_the_place_wants_comes_with_a_known_sum(offered, tmp_path):
    pins = [make_wheel(offered, "alpha"), make_wheel(offered, "beta", "2.0")]
    other = Pin("gone", "1", "sys_platform == 'nowhere'", frozenset(["0" * 64]))
    assert fetched(tmp_path / "w", [*pins, other], [], Target()) == ["alpha-1.0", "beta-2.0"]
    with pytest.raises(InputError, match=r"wheels for this machine: .*HASHES"):
        fetched(tmp_path / "x", [Pin("alpha", "1.0", "", frozenset(["0" * 64]))], [], Target())
    with pytest.raises(InputError, match=r"wheels for this machine: .*gone"):
        fetched(tmp_path / "y", [Pin("gone", "1", "", frozenset(["0" * 64]))], [], Target())


def test_the_build_of_torch_that_is_offered_decides_about_cuda(offered, tmp_path):
    cuda = [make_wheel(offered, "nvidia")]
    torch = make_wheel(
        offered, "torch", "2.0", ("nvidia-cublas==1; platform_system == 'Linux'", "nvidia-x; extra == 'y'")
    )
    linux, mac = target("linux-x86_64", "3.11"), target("macos-arm64", "3.11")
    assert fetched(tmp_path / "linux", [torch], cuda, linux) == ["nvidia-1.0", "torch-2.0"]
    assert fetched(tmp_path / "mac", [torch], cuda, mac) == ["torch-2.0"]
    cpu = make_wheel(offered, "torch", "2.0+cpu")
    with pytest.raises(InputError, match=r"torch-2.0\+cpu.*is none of torch 2.0 in the lock file; wanted a build"):
        fetched(tmp_path / "unknown", [torch], cuda, linux)
    known = Pin("torch", "2.0", "", torch.hashes | cpu.hashes)
    assert fetched(tmp_path / "cpu", [known], cuda, linux) == ["torch-2.0+cpu"]
    [wheel] = (tmp_path / "cpu").glob("*.whl")
    assert wheel_name(wheel) == ("torch", "2.0+cpu") and requirements_of(wheel, linux) == []


@pytest.mark.parametrize("platform", PLATFORMS)
def test_markers_are_compared_with_the_other_machine(platform):
    system = {"linux": "linux", "macos": "darwin", "windows": "win32"}[platform.partition("-")[0]]
    place = target(platform, "3.12")
    for name in ("linux", "darwin", "win32"):
        assert place.wants(f"sys_platform == '{name}'") == (name == system)
    assert place.wants("python_full_version >= '3.12'") and not place.wants("python_version < '3.12'")
    assert place.wants("") and place.wants(None) and not place.wants("extra == 'x'")


@pytest.mark.parametrize(("platform", "python"), [("amiga", None), (None, "3.99"), ("linux-x86_64", "three")])
def test_other_machines_are_refused(platform, python):
    with pytest.raises(InputError, match="wanted"):
        target(platform, python)
