from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.errors import InputError
from common.run.privacy import hash_dataset


def _dataset(folder: Path, size: int = 3, text: str = "x") -> Path:
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "imagesTr" / "a.nii").write_bytes(b"1" * size)
    (folder / "other.txt").write_text(text)
    content = {"name": "set", "training": [{"image": "imagesTr/a.nii"}, {"image": "imagesTr/gone.nii"}], "test": []}
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def test_hash_depends_on_the_listed_files_and_not_on_the_place(tmp_path):
    first = hash_dataset(_dataset(tmp_path / "a"))
    assert first["files"] == 1 and first["bytes"] == 3 and first["cases"] == {"training": 2, "test": 0}
    assert hash_dataset(_dataset(tmp_path / "b", text="another file that isn't listed")) == first
    assert hash_dataset(_dataset(tmp_path / "c", size=4))["sha256"] != first["sha256"]


def test_what_is_learnt_from_is_hashed_by_itself(tmp_path):
    folder = _dataset(tmp_path / "a")
    path = folder / "dataset.json"
    first, content = hash_dataset(folder), json.loads(path.read_text())
    assert first["learnt"] == hash_dataset(_dataset(tmp_path / "b"))["learnt"] != first["sha256"]
    (folder / "t.nii").write_bytes(b"1")
    path.write_text(json.dumps({**content, "reject": ["a"], "test": [{"image": "t.nii"}], "name": "another"}))
    again = hash_dataset(folder)
    assert again["learnt"] == first["learnt"] and again["sha256"] != first["sha256"] and again["files"] == 2
    path.write_text(json.dumps({**content, "training": content["training"][:1]}))
    assert hash_dataset(folder)["learnt"] != first["learnt"]
    assert hash_dataset(_dataset(tmp_path / "c", size=4))["learnt"] != first["learnt"]


def test_hash_names_no_file(tmp_path):
    assert "a.nii" not in json.dumps(hash_dataset(_dataset(tmp_path / "a")))


@pytest.mark.parametrize("content", [None, "", "[1]", "{"])
def test_unreadable_dataset_json_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(InputError, match=r"dataset\.json: can't be read"):
        hash_dataset(tmp_path)
