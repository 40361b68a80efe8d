from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from common.errors import InputError
from tools.packing.bundle_files import collect_files, read_metadata

ROOT = Path(__file__).resolve().parents[3]
BUNDLES = [path for path in sorted((ROOT / "bundles").iterdir()) if path.is_dir()]


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "repository" / "bundles" / "tiny"
    for name in ("LICENSE", "configs/inference.json", "docs/README.md", "scripts/__init__.py", "scripts/network.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "configs" / "metadata.json").write_text(json.dumps({"version": "1.2.3"}))
    common = tmp_path / "repository" / "common"
    (common / "sam").mkdir(parents=True)
    (common / "sam" / "lora.py").write_text("x = 1\n")
    (folder / "scripts" / "common").symlink_to("../../../common")
    return folder


def test_links_are_followed_and_leftovers_of_runs_are_not_taken(bundle):
    for name in (
        "scripts/__pycache__/network.cpython-311.pyc",
        "scripts/.hidden.py",
        "eval/run.json",
        "models/model.pt",
    ):
        (bundle / name).parent.mkdir(exist_ok=True)
        (bundle / name).touch()
    files = collect_files(bundle)
    assert list(files) == [
        "LICENSE",
        "configs/inference.json",
        "configs/metadata.json",
        "docs/README.md",
        "scripts/__init__.py",
        "scripts/common/sam/lora.py",
        "scripts/network.py",
    ]
    assert not any(path.is_symlink() for path in files.values())


@pytest.mark.parametrize("path", BUNDLES, ids=lambda path: path.name)
def test_every_bundle_of_the_repository_can_be_collected(path):
    files = collect_files(path)
    tracked = {file.relative_to(path / "configs").name for file in (path / "configs").glob("*")}
    assert {Path(name).name for name in files if name.startswith("configs/")} == tracked
    assert {"scripts/common/errors.py", "scripts/common/report/template.html", "scripts/common/sam/build.py"} <= set(
        files
    )
    assert read_metadata(path)["version"]


def test_data_weights_and_compiled_files_are_named_all_together(bundle):
    for name in ("docs/scan.nii.gz", "scripts/fast.so", "configs/model.pt"):
        (bundle / name).touch()
    (bundle / "docs" / "README.md").unlink()
    with pytest.raises(InputError) as caught:
        collect_files(bundle)
    assert len(caught.value.problems) == 4
    assert "fast.so: .so suffix; wanted one of" in str(caught.value)
    assert "README.md: no such file" in str(caught.value)


def test_links_out_of_the_repository_in_circles_or_to_nothing_are_refused(bundle, tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    (bundle / "docs" / "notes.txt").symlink_to(tmp_path / "secret.txt")
    (bundle / "docs" / "all").symlink_to(tmp_path)
    (bundle / "docs" / "gone.txt").symlink_to("nowhere.txt")
    (bundle / "docs" / "again").symlink_to("../docs")
    os.mkfifo(bundle / "docs" / "pipe.txt")
    with pytest.raises(InputError) as caught:
        collect_files(bundle)
    said = [line.replace(str(bundle), "") for line in caught.value.problems]
    assert [line.split(";")[0] for line in said] == [
        "/docs/again: leads back to a folder that holds it",
        "/docs/all: leads out of repository",
        "/docs/gone.txt: a link to nothing or a special file",
        "/docs/notes.txt: leads out of repository",
        "/docs/pipe.txt: a link to nothing or a special file",
    ]


@pytest.mark.parametrize("version", ["../../1.0.0", "1.0", 1, "1.0.0 ", "1.0.0/x"])
def test_a_version_has_to_be_fit_for_a_file_name(bundle, version):
    (bundle / "configs" / "metadata.json").write_text(json.dumps({"version": version}))
    with pytest.raises(InputError, match="version"):
        read_metadata(bundle)


def test_metadata_without_a_version_and_no_folder_are_said(bundle):
    (bundle / "configs" / "metadata.json").write_text("[]")
    with pytest.raises(InputError, match="JSON object with a version"):
        read_metadata(bundle)
    with pytest.raises(InputError, match="no such folder"):
        collect_files(bundle / "missing")
