from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from common.errors import InputError
from common.review.knowledge import Knowledge, read_knowledge
from support.bundle.packable import NAME, make_bundle
from support.bundle.run import WEAK, subset_cohort, weights
from tools.pack import main, pack
from tools.packing.checksums import FILE as SUMS
from tools.packing.checksums import parse_sums, sums_of
from tools.signature import make_keys
from tools.unpack import unpack, verify

# in a process of its own: any attempt to reach another machine is an error
NO_NETWORK = """
import socket
def refuse(*arguments, **options):
    raise AssertionError("reached for the network")
socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("repository"))


@pytest.fixture(scope="module")
def packed(bundle, tmp_path_factory):
    """The zip of a tiny trained bundle."""
    path, _ = pack(bundle, tmp_path_factory.mktemp("dist"), bundle / "models" / "model.pt")
    return path


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty folder to work in, from which only installed packages can be imported and no network reached."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "sitecustomize.py").write_text(NO_NETWORK)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def bundle_command(*words: str, folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(folder.parent / "path"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "monai.bundle", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_a_model_is_judged_by_travels_with_it_and_only_with_it(bundle, tmp_path):
    model = tmp_path / "trained" / "model.pt"
    model.parent.mkdir()
    model.write_bytes((bundle / "models" / "model.pt").read_bytes())
    Knowledge(source="two scans").save(model)
    path, _ = pack(bundle, tmp_path / "dist", model, torchscript=False)
    assert read_knowledge(unpack(path, tmp_path)[0] / "models" / "model.pt").source == "two scans"
    (model.parent / "review.json").write_text('{"model": "of another"}')
    path, _ = pack(bundle, tmp_path / "other", model, torchscript=False)
    assert not (unpack(path, tmp_path / "second")[0] / "models" / "review.json").exists()


def test_package_is_complete_plain_and_sound(packed, bundle, tmp_path):
    assert packed.name == f"{NAME}_v0.1.0.zip"
    folder, checked = unpack(packed, tmp_path)
    names = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert checked.files == len(names)
    assert {"LICENSE", "SHA256SUMS", "sbom.cdx.json", "provenance.json", "scripts/common/sam/build.py"} <= names
    assert {name for name in names if name.startswith("models/")} == {
        f"models/model.{suffix}" for suffix in ("pt", "safetensors", "ts")
    }
    assert not any(file.is_symlink() for file in folder.rglob("*"))
    assert not [name for name in names if re.search(r"__pycache__|\.pyc$|^eval/|^data/|/\.", name)]
    assert (folder / "models" / "model.pt").read_bytes() == (bundle / "models" / "model.pt").read_bytes()
    tensors, same = weights(folder / "models" / "model.pt"), load_file(folder / "models" / "model.safetensors")
    exported = torch.jit.load(folder / "models" / "model.ts").state_dict()
    assert tensors.keys() == same.keys() == exported.keys()
    assert all(
        torch.equal(tensors[name], same[name]) and torch.equal(tensors[name], exported[name]) for name in tensors
    )


def test_package_names_no_place_of_this_machine(packed, bundle):
    with zipfile.ZipFile(packed) as archive:
        content = b"".join(archive.read(name) for name in archive.namelist())
    for place in (bundle.parents[1], Path(torch.__file__).parent, Path.cwd()):
        assert f"{place}/".encode() not in content


@pytest.mark.slow
def test_two_builds_are_the_same_to_the_last_byte(packed, tmp_path):
    again = make_bundle(tmp_path / "another" / "place")
    os.utime(again / "configs" / "train.json", (10**9, 10**9))
    path, _ = pack(again, tmp_path / "dist", again / "models" / "model.pt")
    assert path.read_bytes() == packed.read_bytes()


def test_it_runs_in_an_empty_folder_without_the_repository_and_offline(packed, elsewhere, tiny_cohort):
    unpack(packed, elsewhere / "bundles")
    data, root = subset_cohort(tiny_cohort, elsewhere / "data", test=1), elsewhere / "bundles" / NAME
    flags = ["--bundle_root", str(root), "--dataset_dir", str(data / "imagesTs"), "--output_dir", "results"]
    bundle_command("run", "--config_file", str(root / "configs" / "inference.json"), *flags, folder=elsewhere)
    assert len(list((elsewhere / "results").rglob("*_seg.nii.gz"))) == 1


@pytest.mark.slow
def test_it_trains_there_too(packed, elsewhere, tiny_cohort):
    unpack(packed, elsewhere / "bundles")
    data, root = subset_cohort(tiny_cohort, elsewhere / "data", training=3, test=1), elsewhere / "bundles" / NAME
    before = weights(root / "models" / "model.pt")
    flags = WEAK.flags(dataset_dir=data, bundle_root=root, rounds=1, epochs=1, epoch_length=2)
    said = bundle_command("run", "--config_file", str(root / "configs" / "train.json"), *flags, folder=elsewhere)
    after = weights(root / "models" / "model.pt")
    assert "epoch 1/1" in said and (root / "eval" / "report.html").is_file()
    assert before.keys() | {"strides"} == after.keys() and not all(
        torch.equal(after[name], before[name]) for name in before
    )


def test_monai_installs_it_as_it_was_packed(packed, elsewhere):
    words = ["--name", NAME, "--url", packed.as_uri(), "--bundle_dir", str(elsewhere)]
    bundle_command("download", *words, folder=elsewhere)
    installed = elsewhere / NAME
    assert parse_sums((installed / SUMS).read_bytes(), SUMS) == sums_of(installed)


def test_without_a_model_only_if_asked(bundle, tmp_path, capsys):
    with pytest.raises(InputError, match=r"missing.pt: no such file; wanted a trained model.*--without-model"):
        main([str(bundle), "--output", str(tmp_path), "--model", str(tmp_path / "missing.pt")])
    assert list(tmp_path.iterdir()) == []
    assert main([str(bundle), "--output", str(tmp_path), "--without-model"]) == 0
    said = capsys.readouterr().out
    assert "no model is in it" in said and "left out of models: model.pt" in said
    with zipfile.ZipFile(tmp_path / f"{NAME}_v0.1.0.zip") as archive:
        assert not [name for name in archive.namelist() if "/models/" in name]


def test_an_older_zip_and_its_signature_are_replaced_or_stay(bundle, tmp_path, monkeypatch):
    path, note = tmp_path / f"{NAME}_v0.1.0.zip", tmp_path / f"{NAME}_v0.1.0.zip.minisig"
    path.write_text("old")
    note.write_text("old")

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("tools.pack.write_archive", fail)
        with pytest.raises(InputError, match="No space left"):
            pack(bundle, tmp_path, None)
    assert path.read_text() == note.read_text() == "old" and len(list(tmp_path.iterdir())) == 2
    pack(bundle, tmp_path, None)
    assert verify(path).name == NAME
    assert [file.name for file in tmp_path.iterdir()] == [path.name]  # the old signature is not the new zip's


def test_signed_zip_and_a_key_that_lies_in_the_repository(bundle, tmp_path):
    public = make_keys(tmp_path / "key", "")
    path, _ = pack(bundle, tmp_path / "dist", None, key=tmp_path / "key")
    assert verify(path, public).signed == f"file:{path.name}\thashed"
    inside = bundle.parents[1] / "key"
    inside.write_bytes((tmp_path / "key").read_bytes())
    with pytest.raises(InputError, match="wanted a secret key outside of the repository"):
        pack(bundle, tmp_path / "dist", None, key=inside)
    inside.unlink()


def test_a_path_of_this_machine_in_a_file_is_refused(tmp_path):
    bundle = make_bundle(tmp_path / "repository", model=False)
    card = bundle / "docs" / "README.md"
    card.write_text(card.read_text() + f"\nSee {bundle}/eval/report.html\n")
    with pytest.raises(InputError, match=rf"{NAME}/docs/README.md: found the path"):
        pack(bundle, tmp_path / "dist", None)
    assert not (tmp_path / "dist").exists()
