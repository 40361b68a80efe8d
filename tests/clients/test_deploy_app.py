"""A DICOM series through MONAI Deploy's own operators and a packed bundle gives what inference.json gives."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK

from support.bundle.packed import GRID, TINY
from support.data.dicom_series import edit_series, itk_series, masks_by_position, read_back, write_series

APPLICATION = Path(__file__).resolve().parents[2] / "tools" / "deploy_app.py"
NAMES = ["liver", "portal_vessel", "stomach", "spleen", "kidney"]
TIES = 4  # of 28800 voxels: TorchScript's last digit may decide between two labels that are equally likely
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def series(tmp_path_factory) -> Path:
    """An oblique series of pixels that are not square, as an anonymiser leaves it: without birth date and sex."""
    lps = np.eye(4)
    lps[:3, :3] = np.array([[0.6, -0.64, 0.48], [0.8, 0.48, -0.36], [0.0, 0.6, 0.8]]) * [2.5, 2.2, 4.0]
    lps[:3, 3] = -30.5, 12.25, 140.0
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in (40, 36, 20)], indexing="ij")
    noise = np.random.default_rng(0).normal(0, 30, axes[0].shape)
    voxels = 300 + 200 * np.sin(4 * axes[0]) * np.cos(3 * axes[1] + axes[2]) + noise
    return write_series(tmp_path_factory.mktemp("scan") / "series", voxels.astype(np.int16), affine)


@pytest.mark.parametrize("name", TINY)
def test_application_gives_what_inference_gives(
    name, deploy_python, client_environment, packed_bundle, series, tmp_path
):
    bundle = packed_bundle(name)
    done = application(deploy_python, client_environment, series, bundle, tmp_path)
    assert done.returncode == 0, done.stderr
    assert not list((tmp_path / "work").iterdir())  # nothing is left where it ran
    (path,) = (tmp_path / "output").iterdir()
    found, masks = read_back(path, series)
    assert [item.SegmentLabel for item in found.SegmentSequence] == NAMES
    assert found.PatientID == pydicom.dcmread(next(series.iterdir())).PatientID
    inference(bundle, series, tmp_path / "inference")
    wanted = on_series(tmp_path / "inference", series)
    assert len(np.unique(wanted)) > 2
    pairs = enumerate(GRID["label_values"][1:], start=1)
    different = {value: int((masks[number] != (wanted == value)).sum()) for number, value in pairs}
    assert sum(different.values()) <= TIES, different


def test_tilted_and_uneven_slices_and_rounded_directions_too(
    deploy_python, client_environment, packed_bundle, series, tmp_path
):
    """The grid is the one that inference.json has, to the last bit; the frames are the series' own."""
    bundle, scan = packed_bundle("weakmedsam"), shutil.copytree(series, tmp_path / "series")
    turn_and_move(scan)
    done = application(deploy_python, client_environment, scan, bundle, tmp_path)
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "output").iterdir()
    inference(bundle, scan, tmp_path / "inference", "--dicom_seg", "true")
    found, wanted = (
        masks_by_position(pydicom.dcmread(file)) for file in (path, tmp_path / "inference/series/series_seg.dcm")
    )
    assert len(found) > 20  # frames
    blank = np.zeros((40, 36), bool)
    assert sum((found.get(key, blank) != wanted.get(key, blank)).sum() for key in found | wanted) <= TIES
    assert {key[1] for key in found | wanted} <= {
        tuple(float(v) for v in pydicom.dcmread(file).ImagePositionPatient) for file in scan.iterdir()
    }


def turn_and_move(scan: Path) -> None:
    """Tilt a series of 20 slices, round its directions, and put the upper ones further apart."""
    across, down = np.array([0.6, 0.8, 0.0]), np.array([-0.639, 0.479, 0.602])
    down /= np.linalg.norm(down)
    normal = np.cross(across, down)

    def change(number: int, item: pydicom.Dataset) -> None:
        height = 4.0 * number + max(number - 10, 0)
        position = np.array([-30.5, 12.25, 140.0]) + height * (normal + 0.2 * down)
        item.ImagePositionPatient = [f"{value:.6f}" for value in position]
        item.ImageOrientationPatient = [f"{value:.5f}" for value in (*across, *down)]
        item.SliceThickness = "5"

    edit_series(scan, change)


def test_two_phases_are_refused_in_a_line(deploy_python, client_environment, packed_bundle, series, tmp_path):
    """The SDK's loader would keep one of two slices at a position."""
    scan = shutil.copytree(series, tmp_path / "series")
    for file in list(scan.iterdir()):
        item = pydicom.dcmread(file)
        item.SOPInstanceUID, item.AcquisitionNumber = f"{item.SOPInstanceUID}.2", 2
        item.save_as(scan / f"z{file.name}")
    done = application(deploy_python, client_environment, scan, packed_bundle("weakmedsam"), tmp_path)
    assert done.returncode != 0
    wanted = f"error: {scan}: 20 of 40 slices at the same position as another"
    assert done.stderr.splitlines()[-1].startswith(wanted), done.stderr
    assert not list((tmp_path / "output").glob("*"))


def application(python, environment, series: Path, bundle: Path, folder: Path) -> subprocess.CompletedProcess:
    work = folder / "work"
    work.mkdir()
    command = [python, APPLICATION, "-i", series, "-o", folder / "output", "-m", bundle]
    return subprocess.run(command, cwd=work, env=environment(python), capture_output=True, text=True)


def inference(bundle: Path, series: Path, output: Path, *flags: str) -> None:
    """Run inference.json as a user does."""
    config = bundle / "configs" / "inference.json"
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", config, "--bundle_root", bundle]
    command += ["--dataset_dir", series, "--output_dir", output, "--device", "cpu", *flags]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=output.parent, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def on_series(output: Path, series: Path) -> np.ndarray:
    """Return the label map on the series' voxels [columns, rows, slices]."""
    label = SimpleITK.ReadImage(str(output / "series" / "series_seg.nii.gz"))
    found = SimpleITK.Resample(label, itk_series(series), SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor)
    return SimpleITK.GetArrayFromImage(found).transpose(2, 1, 0)
