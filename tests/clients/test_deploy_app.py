"""A DICOM series through MONAI Deploy's own operators and a packed bundle gives what inference.json gives."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK

from support.bundle.packed import GRID, TINY
from support.data.dicom_series import itk_series, read_back, write_series

APPLICATION = Path(__file__).resolve().parents[2] / "tools" / "deploy_app.py"
NAMES = ["liver", "portal_vessel", "stomach", "spleen", "kidney"]
TIES = 4  # of 28800 voxels: TorchScript's last digit may decide between two labels that are equally likely
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def series(tmp_path_factory) -> Path:
    """An oblique series of pixels that are not square, as an anonymiser leaves it: without birth date and sex.

    Its directions are exact as decimal texts. Where they are rounded, the SDK's affine and ITK's differ by 1e-9, and
    MONAI's Spacing then begins its grid at another part of a voxel for the one than for the other.
    """
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
    work, output = tmp_path / "work", tmp_path / "output"
    work.mkdir()
    command = [deploy_python, APPLICATION, "-i", series, "-o", output, "-m", bundle]
    done = subprocess.run(command, cwd=work, env=client_environment(deploy_python), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not list(work.iterdir())  # nothing is left where it ran
    (path,) = output.iterdir()
    found, masks = read_back(path, series)
    assert [item.SegmentLabel for item in found.SegmentSequence] == NAMES
    assert found.PatientID == pydicom.dcmread(next(series.iterdir())).PatientID
    wanted = inference(bundle, series, tmp_path / "inference")
    assert len(np.unique(wanted)) > 2
    pairs = enumerate(GRID["label_values"][1:], start=1)
    different = {value: int((masks[number] != (wanted == value)).sum()) for number, value in pairs}
    assert sum(different.values()) <= TIES, different


def inference(bundle: Path, series: Path, output: Path) -> np.ndarray:
    """Run inference.json as a user does and return the label map on the series' voxels [columns, rows, slices]."""
    config = bundle / "configs" / "inference.json"
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", config, "--bundle_root", bundle]
    command += ["--dataset_dir", series, "--output_dir", output, "--device", "cpu"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=output.parent, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    label = SimpleITK.ReadImage(str(output / "series" / "series_seg.nii.gz"))
    on_series = SimpleITK.Resample(label, itk_series(series), SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor)
    return SimpleITK.GetArrayFromImage(on_series).transpose(2, 1, 0)
