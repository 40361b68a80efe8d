"""A machine without a GPU, and one whose GPU has too little memory."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from monai.bundle import ConfigParser

from support.bundle.path import BUNDLES, import_bundle
from support.bundle.run import ADA, RRL, SEMISAM, WEAK, subset_cohort

NAMES = sorted(run.name for run in (ADA, RRL, SEMISAM, WEAK))
SAID = "CUDA out of memory. Tried to allocate 2.00 GiB"
# MONAI's own command, in which the GPU's memory ends at the n-th backward pass
PROGRAM = f"""
import runpy, sys, torch
passes, backward = iter(range(int(sys.argv.pop(1)))), torch.Tensor.backward

def fails(self, *arguments, **options):
    if next(passes, None) is None:
        raise torch.OutOfMemoryError("{SAID}")
    return backward(self, *arguments, **options)

torch.Tensor.backward = fails
runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("name", ["train.json", "inference.json"])
@pytest.mark.parametrize("bundle", NAMES)
def test_the_gpu_is_taken_where_there_is_one(bundle, name, there, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    parser = ConfigParser()
    parser.read_config(str(BUNDLES / bundle / "configs" / name))
    assert parser.get_parsed_content("device").type == ("cuda" if there else "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("name", ["train.json", "inference.json"])
@pytest.mark.parametrize("bundle", NAMES)
def test_a_gpu_that_is_asked_for_in_vain_is_a_line(bundle, name, monkeypatch):
    check = import_bundle(bundle, "settings").check
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # put back
    config = str(BUNDLES / bundle / "configs" / name)
    command = ["monai/bundle/__main__.py", "run", "--config_file", config, "--device=cuda:0"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(ValueError, match=r"^--device is 'cuda:0'; wanted cpu, or where this machine has such a GPU"):
        check()


def test_too_little_memory_is_a_line_with_what_to_lower_and_what_is_kept(tiny_cohort, tmp_path):
    data = subset_cohort(tiny_cohort, tmp_path / "data", training=3)
    flags = [f"--{name}_dir={tmp_path / name}" for name in ("output", "ckpt", "cache")]
    flags += SEMISAM.flags(dataset_dir=data, bundle_root=SEMISAM.folder, save_every=1)
    steps = SEMISAM.tiny["epoch_length"] + 1  # into the second epoch
    command = [
        sys.executable,
        "-B",
        "-c",
        PROGRAM,
        str(steps),
        "run",
        "--config_file",
        str(SEMISAM.configs / "train.json"),
    ]
    done = subprocess.run([*command, *flags], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    (line,) = [text for text in done.stderr.splitlines() if not text.startswith("parsing config_file")]
    assert done.returncode == 1 and line.startswith(f"error: out of memory ({SAID}); wanted more, or a smaller grid ")
    assert "(max_voxels of a training), or device cpu; kept: epoch 1 of 2 of stage train (" in line
    assert torch.load(tmp_path / "ckpt" / "train.checkpoint.pt", weights_only=True)["epoch"] == 1


@pytest.mark.parametrize("bundle", NAMES)
def test_what_that_line_names_are_keys(bundle):
    train, inference = (
        json.loads((BUNDLES / bundle / "configs" / name).read_text(encoding="utf-8"))
        for name in ("train.json", "inference.json")
    )
    assert {"max_voxels", "device"} <= train.keys() and "device" in inference
