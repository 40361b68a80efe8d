"""Federated rounds by NVFLARE's own simulator: sites with data and a copy of the bundle of their own.

Each test is one command of the NVFLARE environment, as in docs/federated.md; this process looks at what it leaves.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from common.data.sample import make_sample_cohort
from support.bundle.run import ADA, ADAPTERS, RRL, SEMISAM, WEAK, BundleRun
from support.clients.federation import split, tiny


@pytest.fixture(scope="module")
def sites(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sites")
    size = (32, 28, 24)
    whole = make_sample_cohort(folder / "whole", num_training=8, num_validation=0, num_test=4, spatial_size=size)
    return split(whole, folder, "B")


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)


def assert_learnt(workspace: Path) -> None:
    """Both sites took part in both rounds, the weights changed and the grid didn't, and both scored the model."""
    first, last = weights(workspace / "start.pt"), weights(workspace / "model.pt")
    assert first.keys() == last.keys()
    for name in ("spatial_size", "pixdim", "label_values"):
        assert torch.equal(first[name], last[name])
    assert any(not torch.equal(first[name], last[name]) for name in first)
    log = (workspace / "nvflare" / "federated" / "server" / "log.txt").read_text(encoding="utf-8")
    assert log.count("Aggregated 2/2 results") == 2
    row = json.loads((workspace / "results.json").read_text(encoding="utf-8"))[0]  # evaluate.json loads it strictly
    assert row["model"] == "all sites" and 0 <= row["A"] <= 1 and 0 <= row["B"] <= 1


def assert_segments(workspace: Path, bundle: BundleRun, image: Path, python: Path, environment: dict) -> None:
    """Any copy of the bundle takes the global model in inference.json."""
    site = workspace / "sites" / "A" / bundle.name
    config = {key: value for key, value in tiny(bundle).items() if key in ("channels", "strides", "device")}
    config |= {"ckpt_path": str(workspace / "model.pt"), "dataset_dir": str(image.parent)}
    config |= {"output_dir": str(workspace / "inference")}
    (workspace / "inference.json").write_text(json.dumps(config))
    command = [str(python), "-m", "monai.bundle", "run", "--config_file", "configs/inference.json"]
    command += ["--args_file", str(workspace / "inference.json")]
    subprocess.run(command, cwd=site, env=environment, capture_output=True, check=True, timeout=200)
    name = image.name.removesuffix(".nii.gz")
    written, source = nibabel.load(workspace / "inference" / name / f"{name}_seg.nii.gz"), nibabel.load(image)
    assert written.shape == source.shape and np.allclose(written.affine, source.affine, atol=1e-4)
    assert set(np.unique(written.dataobj)) <= set(weights(workspace / "model.pt")["label_values"].int().tolist())


@pytest.mark.parametrize(
    ("bundle", "second"),
    [(SEMISAM, "B without labels"), (WEAK, "B"), (ADA, "B"), (RRL, "B"), (ADAPTERS, "B")],
    ids=["semisam_plus", "weakmedsam", "ada_sam", "rrl_medsam", "sam_adapters"],
)
def test_two_rounds_of_two_sites(bundle, second, federate, sites, nvflare_python, client_environment):
    data = {"A": sites["A"], "B": sites[second]}
    workspace, said, code = federate(bundle.name, data, tiny(bundle), "--rounds", "2")
    assert code == 0, said[-3000:]
    assert f"site B: {'labelled' if second == 'B' else 'no label'}" in said
    assert_learnt(workspace)
    if bundle is SEMISAM:
        image = next((sites["A"] / "imagesTs").iterdir())
        assert_segments(workspace, bundle, image, nvflare_python, client_environment(nvflare_python))
    stages = json.loads((workspace / "sites" / "A" / bundle.name / "eval" / "run.json").read_text())["stages"]
    assert stages["train"]["times_run"] == 2 and stages["load volumes"]["times_run"] == 1


def test_a_site_that_fails_ends_the_training_with_its_own_line(federate, sites, tmp_path):
    """The header is sound, so that only its own preparation, inside NVFLARE, finds what is wrong."""
    broken = Path(shutil.copytree(sites["B"], tmp_path / "broken"))
    image = sorted((broken / "imagesTr").iterdir())[0]
    image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
    workspace, said, code = federate(SEMISAM.name, {"A": sites["A"], "B": broken}, tiny(SEMISAM), "--rounds", "2")
    assert code != 0 and not (workspace / "model.pt").exists()
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "site B" in lines[0] and image.name in lines[0], said[-3000:]
