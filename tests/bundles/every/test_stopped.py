"""What is stopped before its time ends in one line: what is kept, and how to go on."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from common.files.folder_lock import FILE as LOCK
from common.files.temporary import PREFIX
from support.bundle.network import first_network
from support.bundle.run import RRL, SEMISAM, assert_same_weights, command, subset_cohort

LONG = {"epochs": 400, "save_every": 1}


def wait_for(process: subprocess.Popen, there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not there() and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def own_lines(complaints: str) -> list[str]:
    """Return what a command said on stderr, without MONAI's notice."""
    return [line for line in complaints.splitlines() if not line.startswith("parsing config_file")]


def folders(folder: Path) -> list[str]:
    return [f"--{name}_dir={folder / name}" for name in ("output", "ckpt", "cache")]


def left(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.name == LOCK or path.name.startswith(PREFIX)]


@pytest.mark.parametrize(("sent", "status", "word"), [(signal.SIGTERM, 143, "SIGTERM"), (signal.SIGINT, 130, "Ctrl-C")])
def test_a_training(sent, status, word, tiny_cohort, tmp_path):
    data = subset_cohort(tiny_cohort, tmp_path / "data", training=3)
    options = SEMISAM.flags(dataset_dir=data, bundle_root=SEMISAM.folder, **LONG)
    process = command([SEMISAM.configs / "train.json"], *options, *folders(tmp_path), cwd=tmp_path)
    wait_for(process, (tmp_path / "ckpt" / "train.checkpoint.pt.previous").exists)
    process.send_signal(sent)
    _, complaints = process.communicate(timeout=300)
    (line,) = own_lines(complaints)
    assert process.returncode == status and line.startswith(f"stopped: by {word}; kept: epoch ")
    assert f" of 400 of stage train ({tmp_path / 'ckpt' / 'train.checkpoint.pt'}); to go on: the same comm" in line
    assert left(tmp_path) == [] and line.endswith("--resume true")
    epoch = torch.load(tmp_path / "ckpt" / "train.checkpoint.pt", weights_only=True)["epoch"]
    assert f"kept: epoch {epoch} of" in line


@pytest.mark.slow
def test_a_disk_that_is_full(tiny_cohort, tmp_path):
    """A file can't grow over 30 KB, which is told as a full disk is; with room the same command goes on."""
    data = subset_cohort(tiny_cohort, tmp_path / "data", training=3)
    options = RRL.flags(dataset_dir=data, bundle_root=RRL.folder)
    line = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(RRL.configs / "train.json"), *options]
    small = subprocess.run(
        [*line, *folders(tmp_path / "small")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000)),
    )
    said = [text for text in own_lines(small.stderr) if not text.startswith("monai.")]  # its warnings
    assert small.returncode == 1 and len(said) == 2 and said[0].startswith("error: ")
    assert "can't be written (File too large)" in said[0] and said[1].startswith("kept: no checkpoint yet")
    assert said[1].endswith("--resume true") and left(tmp_path / "small") == []
    subprocess.run([*line, *folders(tmp_path / "small"), "--resume=true"], cwd=tmp_path, check=True)
    subprocess.run([*line, *folders(tmp_path / "whole")], cwd=tmp_path, check=True)
    assert_same_weights(*(tmp_path / name / "ckpt" / "model.pt" for name in ("small", "whole")))


def test_an_inference(tiny_cohort, tmp_path):
    network = first_network(RRL.folder, channels=RRL.tiny["channels"])
    torch.save(network.state_dict(), tmp_path / "model.pt")
    scans = tmp_path / "scans"
    scans.mkdir()
    for number in range(40):
        os.link(tiny_cohort / "imagesTr" / "sample_000.nii.gz", scans / f"scan_{number:02d}.nii.gz")
    settings = {"dataset_dir": scans, "ckpt_path": tmp_path / "model.pt", "output_dir": tmp_path / "out"}
    options = [f"--{name}={value}" for name, value in settings.items()] + ["--channels=[4,8,8,8]", "--device=cpu"]
    options.append(f"--bundle_root={RRL.folder}")
    process = command([RRL.configs / "inference.json"], *options, cwd=tmp_path)
    wait_for(process, lambda: len(list((tmp_path / "out").glob("*/*_seg.nii.gz"))) >= 2)
    process.send_signal(signal.SIGTERM)
    said, complaints = process.communicate(timeout=300)
    done = [line.split()[0] for line in said.splitlines() if "_seg.nii.gz" in line]
    (line,) = own_lines(complaints)
    assert process.returncode == 143 and done and left(tmp_path) == []
    # the signal may come between a scan's line and its being counted
    wanted = [f"stopped: by SIGTERM; {count} of 40 scans are done: {done[0]}" for count in (len(done), len(done) - 1)]
    assert line.startswith(tuple(wanted))
