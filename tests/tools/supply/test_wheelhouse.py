from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import InputError
from support.bundle.packable import NAME, make_bundle
from support.data.tiny_wheels import make_wheel
from support.process.offline import run_offline
from tools import wheelhouse
from tools.packing.checksums import FILE as SUMS
from tools.signature import make_keys, verify
from tools.supply.wheels import Target
from tools.wheelhouse import build

SHA256SUM = shutil.which("sha256sum")


@pytest.fixture(scope="module")
def stick(tmp_path_factory) -> Path:
    """A stick with two tiny wheels, of which one needs the other, foundation weights of a few bytes, and a bundle."""
    folder = tmp_path_factory.mktemp("wheelhouse")
    pins = [make_wheel(folder / "offered", "alpha", requires=("beta",)), make_wheel(folder / "offered", "beta", "2.0")]
    (folder / "brought.pt").write_bytes(b"weights")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PIP_")]:
            patch.delenv(name)
        patch.setenv("PIP_CONFIG_FILE", os.devnull)
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_FIND_LINKS", str(folder / "offered"))
        patch.setattr(wheelhouse, "find_weights", lambda name: folder / "brought.pt")
        make_keys(folder / "key", "")
        bundle = make_bundle(folder / "repository")
        said = build(folder / "stick", pins, [], [bundle], ["mobile_sam"], Target(), folder / "key")
    assert said[0].startswith("2 wheels, ")
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith(".")) == []
    return folder / "stick"


@pytest.fixture
def copied(stick, tmp_path) -> Path:
    return Path(shutil.copytree(stick, tmp_path / "stick"))


def install(stick: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return run_offline([sys.executable, stick / "install.py", folder / "site"], folder)


def test_it_holds_everything_and_its_sums_are_signed(stick):
    assert {path.name for path in stick.iterdir()} == {
        *("wheels", "weights", "bundles", "common", "tools"),
        *("LICENSE", "README.txt", "install.py", "made_for.json", "requirements.lock", SUMS, f"{SUMS}.minisig"),
    }
    with (stick / SUMS).open("rb") as file:
        assert verify(file, stick / SUMS, stick.parent / "key.pub") == "file:SHA256SUMS\thashed"
    if SHA256SUM:
        assert subprocess.run([SHA256SUM, "--check", "--strict", "--quiet", SUMS], cwd=stick).returncode == 0
    for path in stick.rglob("*"):
        assert not path.is_file() or str(stick.parent).encode() not in path.read_bytes(), path


def test_it_installs_and_segments_without_a_network(copied, tmp_path, tiny_cohort):
    done = install(copied, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    site = tmp_path / "site"
    assert (site / "weights" / "mobile_sam.pt").read_bytes() == b"weights"
    [python] = [*site.glob("venv/bin/python"), *site.glob("venv/Scripts/python.exe")]
    code = "import alpha, beta; print(alpha.version, beta.version)"
    assert run_offline([python, "-c", code], tmp_path).stdout.split() == ["1.0", "2.0"]
    # the tiny wheels bring no torch: the bundle runs in the environment of the tests, which reaches no network either
    bundle, scans = site / "bundles" / NAME, Path(tiny_cohort) / "imagesTs"
    words = ["--config_file", bundle / "configs" / "inference.json", "--bundle_root", bundle]
    words += ["--dataset_dir", scans, "--output_dir", "results"]
    done = run_offline([sys.executable, "-m", "monai.bundle", "run", *words], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((tmp_path / "results").rglob("*_seg.nii.gz"))) == len(list(scans.iterdir()))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda stick: next(stick.glob("wheels/beta*")).write_bytes(b"another"), "another sha256"),
        (lambda stick: next(stick.glob("wheels/beta*")).unlink(), "missing"),
        (lambda stick: (stick / "wheels" / "evil-1-py3-none-any.whl").touch(), f"not in {SUMS}"),
        (lambda stick: (stick / "made_for.json").write_text('{"python": "2.7"}'), "wanted 2.7"),
    ],
)
def test_a_stick_that_changed_installs_nothing(copied, tmp_path, change, said):
    change(copied)
    done = install(copied, tmp_path)
    assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "site").exists()


def test_a_folder_that_is_there_stays(copied, tmp_path):
    (tmp_path / "site").mkdir()
    assert "already there" in install(copied, tmp_path).stderr
    with pytest.raises(InputError, match="already there"):
        build(copied, [], [], [], [], Target())


def test_the_blocked_network_is_blocked(tmp_path):
    code = "import socket; socket.create_connection(('127.0.0.1', 9))"
    assert "the network is blocked" in run_offline([sys.executable, "-c", code], tmp_path).stderr


def test_what_fails_leaves_nothing(tmp_path, monkeypatch):
    def fail(*arguments):
        raise InputError("no wheel")

    monkeypatch.setattr(wheelhouse, "fetch_wheels", fail)
    with pytest.raises(InputError, match="no wheel"):
        build(tmp_path / "stick", [], [], [], [], Target())
    assert list(tmp_path.iterdir()) == []
