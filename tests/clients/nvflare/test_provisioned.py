"""A provisioned project on loopback, with its certificates: a job from the admin's kit, and a site that is gone."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from common.data.sample import make_sample_cohort
from support.bundle.path import BUNDLES
from support.bundle.run import SEMISAM
from support.clients.federation import split, tiny
from support.clients.provisioned import project, provision
from tools.pack import pack
from tools.unpack import unpack

AGREED = {"spatial_size": [24, 16, 16], "pixdim": [2.5, 3.0, 3.0], "intensity_range": "percentiles"}
SITES = {"north": "A", "south": "B"}


@pytest.fixture(scope="module")
def parts(tmp_path_factory, nvflare_python, client_environment) -> Iterator[tuple]:
    """A running project, the packed bundle, the data sets by site, and the sites' own variables."""
    folder = tmp_path_factory.mktemp("provisioned")
    size = (32, 28, 24)
    whole = make_sample_cohort(folder / "whole", num_training=8, num_validation=0, num_test=4, spatial_size=size)
    halves = split(whole, folder / "data", "B")
    data = {site: halves[half] for site, half in SITES.items()}
    archive = pack(BUNDLES / SEMISAM.name, folder / "dist", None)[0]
    variables = {}
    for site, place in data.items():
        bundle, _ = unpack(archive, folder / "sites" / site)
        variables[site] = {"FEDERATED_BUNDLE": str(bundle), "FEDERATED_DATASET_DIR": str(place)}
    kits = provision(nvflare_python, client_environment, folder / "project", *SITES)
    # NVFLARE's sockets lie in TMPDIR, and a socket's path has 107 letters at most
    with tempfile.TemporaryDirectory(prefix="fl", ignore_cleanup_errors=True) as short:
        with project(kits, client_environment(nvflare_python, TMPDIR=short), variables) as running:
            yield running, archive, data, variables


def submit(parts, python: Path, workspace: Path, *more: str) -> subprocess.Popen:
    running, archive, data, _ = parts
    command = [str(python), "-m", "tools.federated_job", "--bundle", str(archive), "--workspace", str(workspace)]
    command += ["--kit", str(running.admin), "--labels", str(data["north"] / "dataset.json"), *more]
    for site in SITES:
        command += ["--site", site]
    for key, value in {**tiny(SEMISAM), **AGREED}.items():
        command += ["--set", f"{key}={json.dumps(value)}"]
    said = workspace.with_suffix(".log").open("w")
    return subprocess.Popen(command, cwd=BUNDLES.parent, env=running.environment, stdout=said, stderr=said)


def assert_model(workspace: Path) -> None:
    said = workspace.with_suffix(".log").read_text(encoding="utf-8")
    assert (workspace / "model.pt").is_file(), said[-3000:]
    first, last = (torch.load(workspace / name, weights_only=True) for name in ("start.pt", "model.pt"))
    assert first.keys() == last.keys() and any(not torch.equal(first[name], last[name]) for name in first)
    assert all(bool(torch.isfinite(value).all()) for value in last.values())
    assert last["spatial_size"].tolist() == AGREED["spatial_size"]


def test_a_job_from_the_admins_kit_brings_a_model_that_a_site_scores(parts, nvflare_python, tmp_path):
    workspace = tmp_path / "job"
    done = submit(parts, nvflare_python, workspace, "--rounds", "2")
    assert done.wait(600) == 0, workspace.with_suffix(".log").read_text()[-3000:]
    assert_model(workspace)
    running, _, data, variables = parts
    sent = [file.read_text(encoding="utf-8") for file in workspace.rglob("config_fed_client.json")]
    assert len(sent) == 2 and not any(str(place) in text for place in data.values() for text in sent)
    settings = {key: tiny(SEMISAM)[key] for key in ("channels", "strides", "device", "levels", "generalist")}
    settings |= AGREED | {
        "federated": True,
        "ckpt_path": str(workspace / "model.pt"),
        "output_dir": str(tmp_path / "e"),
    }
    settings |= {"dataset_dir": str(data["south"]), "generalist": "$None"}
    (tmp_path / "evaluate.json").write_text(json.dumps(settings))
    command = [str(nvflare_python), "-m", "monai.bundle", "run", "--args_file", str(tmp_path / "evaluate.json")]
    command += ["--config_file", "['configs/train.json', 'configs/evaluate.json']"]
    bundle = variables["south"]["FEDERATED_BUNDLE"]
    subprocess.run(command, cwd=bundle, env=running.environment, check=True, timeout=300, capture_output=True)
    rows = json.loads((tmp_path / "e" / "metrics.json").read_text(encoding="utf-8"))["rows"]
    assert rows and all(0 <= row["dice"] <= 1 for row in rows)


def test_the_rounds_go_on_without_a_site_that_is_killed_and_started_again(parts, nvflare_python, tmp_path):
    """NVFLARE's own averaging waits without an end: a client that is back has a new token, and no part in the job."""
    running, _, _, variables = parts
    workspace = tmp_path / "job"
    begun = running.log("localhost").count("Round 1 started")
    job = submit(parts, nvflare_python, workspace, "--rounds", "3", "--min-sites", "1", "--wait", "5")
    running.wait_for("localhost", "Round 1 started", times=begun + 1)
    registered = running.log("south").count("Successfully registered client")
    running.kill("south")
    running.start("south", **variables["south"])
    running.wait_for("south", "Successfully registered client", times=registered + 1)
    assert job.wait(600) == 0, workspace.with_suffix(".log").read_text()[-3000:]
    assert_model(workspace)
