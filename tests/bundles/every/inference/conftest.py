"""inference.json in this process, on scans of every geometry and format."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import nibabel
import pytest
from monai.bundle import ConfigWorkflow

from support.bundle.path import import_bundle
from support.data.ellipsoid import GEOMETRIES, scan, write_itk
from support.networks.bright_model import CONFIG, QUICK, ROOT, save_model


@pytest.fixture
def clean_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put the bundle's `scripts` in place, and put back what a run changes in its process."""
    import_bundle("rrl_medsam")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "path", list(sys.path))
        patch.setattr(sys, "excepthook", sys.excepthook)
        yield


@pytest.fixture
def run(clean_process, monkeypatch, model, tmp_path):
    """Run inference.json in this process, from the root of the repository."""
    monkeypatch.chdir(ROOT)

    def workflow(dataset_dir, config: Path | str = CONFIG, **overrides):
        settings = {**QUICK, "ckpt_path": str(model), "output_dir": str(tmp_path / "out"), "device": "cpu"}
        settings |= {"dataset_dir": str(dataset_dir), **overrides}
        flow = ConfigWorkflow(str(config), workflow_type="inference", logging_file=False, **settings)
        flow.initialize()
        flow.run()
        return Path(settings["output_dir"])

    return workflow


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "model.pt", [0, 1])


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    """One NIfTI for each geometry, and the oblique one in all other formats."""
    folder = tmp_path_factory.mktemp("scans")
    for name, geometry in GEOMETRIES.items():
        voxels, affine = scan(*geometry)
        nibabel.save(nibabel.Nifti1Image(voxels, affine), folder / f"{name}.nii.gz")
    for name in ("format.nrrd", "other.mha", "series"):
        write_itk(folder / name, *scan(*GEOMETRIES["oblique"]))
    return folder
