"""From any folder, in a process of its own, in a server."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from common.errors import InputError
from support.data.ellipsoid import dice, truth
from support.networks.bright_model import BUNDLE, CONFIG, QUICK, ROOT


def test_bundle_root_is_found_from_the_repository_and_from_the_bundle(run, scans, model, monkeypatch, tmp_path):
    outputs = []
    for folder, config in ((ROOT, "bundles/rrl_medsam/configs/inference.json"), (BUNDLE, "configs/inference.json")):
        monkeypatch.chdir(folder)
        parser = ConfigParser()
        parser.read_config(config)
        assert Path(parser.get_parsed_content("bundle_root")).resolve() == BUNDLE
        assert Path(parser.get_parsed_content("ckpt_path")).resolve() == BUNDLE / "models" / "model.pt"
        assert Path(parser.get_parsed_content("output_dir")).resolve() == BUNDLE / "eval" / "predictions"
        output = run(scans / "RAS.nii.gz", config=config, output_dir=str(tmp_path / folder.name))
        outputs.append((output / "RAS" / "RAS_seg.nii.gz").read_bytes())
    assert outputs[0] == outputs[1]


GUARD = """
import socket, sys

def refuse(*arguments, **options):
    raise OSError("this test allows no network")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse

class NoSam:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "segment_anything":
            raise ImportError("this test allows no SAM")

sys.meta_path.insert(0, NoSam())
"""


def test_as_a_process_elsewhere_with_model_pt_alone(run, scans, model, tmp_path):
    """From another folder with --bundle_root; without SAM, network or a writable home."""
    elsewhere, home = tmp_path / "elsewhere", tmp_path / "home"
    elsewhere.mkdir()
    home.mkdir()
    (home / "sitecustomize.py").write_text(GUARD)
    options = {**QUICK, "bundle_root": BUNDLE, "ckpt_path": model, "output_dir": "out", "device": "cpu"}
    flags = [f"--{key}={value}" for key, value in options.items()]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(CONFIG)]
    environment = {**os.environ, "PYTHONPATH": str(home), "HOME": str(home)}

    def process(*more: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [*command, *flags, *more],
            cwd=elsewhere,
            env=environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=600,
        )

    result = process(f"--dataset_dir={scans / 'RAS.nii.gz'}")
    assert result.returncode == 0, result.stderr
    written = elsewhere / "out" / "RAS" / "RAS_seg.nii.gz"
    assert f"{Path('out') / 'RAS' / 'RAS_seg.nii.gz'}  label 1: " in result.stdout
    beside = {elsewhere / "out" / name for name in ("review.csv", "review.html")}
    assert {path for path in elsewhere.rglob("*") if path.is_file()} == {written, *beside}
    here = run(scans / "RAS.nii.gz") / "RAS" / "RAS_seg.nii.gz"
    assert written.read_bytes() == here.read_bytes()


def test_a_server_can_use_the_parts_without_files(clean_process, scans, model, monkeypatch):
    """MONAI Label and Deploy take transforms, inferer and network, and leave out SaveImage."""
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(BUNDLE))
    monkeypatch.setattr(socket.socket, "connect", lambda *a: pytest.fail("network"))
    parser = ConfigParser()
    parser.read_config(CONFIG)
    parser.update({**QUICK, "bundle_root": str(BUNDLE), "ckpt_path": str(model), "device": "cpu"})
    parts = {name: parser.get_parsed_content(name) for name in ("preprocessing", "inferer", "postprocessing")}
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(torch.load(model, weights_only=True))
    item = parts["preprocessing"]({"image": str(scans / "PSR.nii.gz")})
    item["pred"] = parts["inferer"](item["image"][None], network.eval())[0]
    for transform in parts["postprocessing"].transforms:
        if type(transform).__name__ != "SaveImaged":
            item = transform(item)
    image = nibabel.load(scans / "PSR.nii.gz")
    assert item["pred"].shape == (1, *image.shape) and np.allclose(item["pred"].affine, image.affine, atol=1e-5)
    assert dice(item["pred"][0].numpy() == 1, truth(image.affine, image.shape)) > 0.93


def test_what_training_and_inference_share_is_the_same_text():
    files = [BUNDLE / "configs" / name for name in ("train.json", "inference.json")]
    train, inference = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    numbers = "percentiles channels norm dropout prompt output tta_views refine_intensity".split()
    train["coarse"]["strides"] = "@strides"  # training plans them, model.pt knows them
    train["preprocessing"] = train["scan_preprocessing"]  # a model is given the whole scan, training the grid
    inference["inferer"] = inference["inferer"]["inferer"]  # which looks twice, where training looks once
    for key in ("preprocessing", "coarse", "network_def", "inferer", *numbers):
        assert inference[key] == train[key], key


def test_config_stays_readable():
    lines = CONFIG.read_text(encoding="utf-8").splitlines()
    assert len(lines) < 120
    assert issubclass(InputError, ValueError)
