"""A bundle without Python: the same predictions by its wheel, nothing that a scan refuses, the same bytes each time."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import zipfile

import nibabel
import numpy as np
import pytest

from support.bundle.packable import NAME, make_bundle
from tools.pack import pack
from tools.packing.pure import package_of, sha256_of, wheel_version
from tools.scan import scan
from tools.scanning.findings import read_allow_list
from tools.unpack import unpack

PACKAGE = f"{NAME}_scripts"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("repository"))


@pytest.fixture(scope="module")
def packed(bundle, tmp_path_factory):
    """The zip; its wheel lies beside it."""
    path, remarks = pack(bundle, tmp_path_factory.mktemp("dist"), bundle / "models" / "model.pt", pure=True)
    assert path.name == f"{NAME}_v0.1.0_pure.zip" and any(".whl" in line for line in remarks)
    return path


def wheel_of(packed):
    [wheel] = packed.parent.glob("*.whl")
    return wheel


def predict(folder, scan_file, **environment):
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", "configs/inference.json"]
    command += [f"--dataset_dir={scan_file}", f"--output_dir={folder.parent / 'out'}"]
    variables = {**os.environ, **environment}
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return nibabel.load(folder.parent / "out" / "scan" / "scan_seg.nii.gz").get_fdata()


def test_there_is_no_python_and_a_scan_allows_all_of_it(packed):
    with zipfile.ZipFile(packed) as archive:
        names = archive.namelist()
    assert not [name for name in names if name.endswith(".py") or "/scripts/" in name]
    findings = scan(packed, read_allow_list())
    assert findings and not [finding for finding in findings if not finding.allowed]


def test_a_target_of_the_wheel_that_is_not_listed_is_refused(packed, tmp_path):
    folder, _ = unpack(packed, tmp_path)
    config = folder / "configs" / "inference.json"
    content = json.loads(config.read_text())
    content["extra"] = {"_target_": f"{PACKAGE}.common.files.temporary.run_anything"}
    config.write_text(json.dumps(content))
    refused = [finding for finding in scan(folder, read_allow_list()) if not finding.allowed]
    assert [finding.what for finding in refused] == [content["extra"]["_target_"]]


def test_the_wheel_holds_what_it_says(packed):
    with zipfile.ZipFile(wheel_of(packed)) as archive:
        names = archive.namelist()
        [record] = [name for name in names if name.endswith("RECORD")]
        rows = list(csv.reader(archive.read(record).decode().splitlines()))
        assert {row[0] for row in rows} == set(names)
        assert all(int(size) == archive.getinfo(name).file_size for name, _, size in rows if size)
    assert f"{PACKAGE}/common/grid/native.py" in names and f"{PACKAGE}/__init__.py" in names


@pytest.mark.slow
def test_it_predicts_as_the_package_with_code_does(bundle, packed, tmp_path):
    random = np.random.default_rng(0)
    file = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(random.normal(100, 20, (40, 36, 30)).astype(np.float32), np.eye(4) * 4), file)
    pure, _ = unpack(packed, tmp_path / "pure")
    library = tmp_path / "library"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    install += ["--find-links", str(packed.parent), "--require-hashes", "-r", str(pure / "docs" / "requirements.txt")]
    subprocess.run([*install, "--target", str(library)], check=True, timeout=300)
    ordinary, _ = pack(bundle, tmp_path / "dist", bundle / "models" / "model.pt", torchscript=False)
    with_code, _ = unpack(ordinary, tmp_path / "code")
    found = predict(pure, file, PYTHONPATH=str(library))
    assert np.array_equal(found, predict(with_code, file))
    assert len(np.unique(found)) > 1


def test_its_wheel_is_required_and_pinned_and_is_the_same_each_time(bundle, packed, tmp_path):
    folder, _ = unpack(packed, tmp_path / "one")
    metadata = json.loads((folder / "configs" / "metadata.json").read_text())
    assert metadata["required_packages_version"][PACKAGE] == "0.1.0"
    sha256 = sha256_of(wheel_of(packed))
    assert (folder / "docs" / "requirements.txt").read_text() == f"{PACKAGE}==0.1.0 --hash=sha256:{sha256}\n"
    assert json.loads((folder / "provenance.json").read_text())["model"]["scripts"]["sha256"] == sha256
    again, _ = pack(bundle, tmp_path / "again", bundle / "models" / "model.pt", pure=True)
    assert again.read_bytes() == packed.read_bytes() and sha256_of(wheel_of(again)) == sha256


@pytest.mark.parametrize(
    ("given", "wanted"), [("0.1.0", "0.1.0"), ("1.2.3-rc.1", "1.2.3+rc.1"), ("1.2.3+Ours 2", "1.2.3+ours.2")]
)
def test_versions_that_a_wheel_can_have(given, wanted):
    assert wheel_version(given) == wanted
    assert package_of("a-bundle") == "a_bundle_scripts"
