from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from tools.packing.provenance import FILE, source_of, write_provenance

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def git(folder, *arguments):
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "bundles" / "tiny"
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / "metadata.json").write_text("{}")
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "data.py").write_text("x = 1\n")
    return folder


@needs_git
def test_commit_and_changes_of_bundle_and_common(bundle, tmp_path):
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "README.md").write_text("beside it")
    assert source_of(bundle) == {"commit": commit, "changed": False}
    (tmp_path / "common" / "data.py").write_text("x = 2\n")
    assert source_of(bundle) == {"commit": commit, "changed": True}


@needs_git
def test_a_repository_around_it_that_does_not_know_the_bundle_says_nothing(bundle, tmp_path):
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "-m", "another project")
    assert source_of(bundle) == {"commit": None, "changed": None}


def test_no_git_is_no_error(bundle, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert source_of(bundle) == {"commit": None, "changed": None}


def test_file_names_versions_and_sums_but_no_place_and_no_time(bundle, tmp_path):
    sums = {"configs/metadata.json": "0" * 64, "models/model.pt": "1" * 64, "scripts/network.py": "2" * 64}
    write_provenance(bundle, {"version": "0.1.0"}, {"commit": None, "changed": None}, sums, {"packed": True})
    text = (bundle / FILE).read_text()
    content = json.loads(text)
    assert list(content) == ["bundle", "version", "source", "made_with", "model", "sha256"]
    assert (content["bundle"], content["version"], content["model"]) == ("tiny", "0.1.0", {"packed": True})
    assert content["sha256"] == {"configs/metadata.json": "0" * 64, "models/model.pt": "1" * 64}
    assert {"python", "torch", "monai"} <= set(content["made_with"])
    assert str(tmp_path) not in text
