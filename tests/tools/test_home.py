"""`~` is the home folder among the arguments of every command."""

from __future__ import annotations

import re

import torch

from common.files.atomic_write import write_atomic
from common.files.tensor_files import atomic_save, read_tensors
from common.sam.weights.known import weights_folder
from support.bundle.run import subset_cohort
from tools import propose_slices, slice_labels
from tools.new_bundle import ROOT


def test_every_path_among_arguments_is_read_so():
    for file in sorted([*(ROOT / "tools").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")]):
        found = re.findall(r"type=(?:pathlib\.)?Path\b", file.read_text(encoding="utf-8"))
        assert not found or file.name == "torchvision_remedy.py", file


def test_tools_that_write_into_a_data_set(home, tiny_cohort, tmp_path):
    subset_cohort(tiny_cohort, home / "data", training=2)
    assert not slice_labels.main(["~/data", "--output", "~/data/bits.json"])
    assert not propose_slices.main(["~/data", "--datalist", "~/data/bits.json", "--num-label-slices", "2"])
    assert (home / "data" / "bits.json").is_file()
    assert not list(tmp_path.rglob("~*"))


def test_files_of_all_kinds(home, tmp_path, monkeypatch):
    write_atomic("~/a/b.txt", "text")
    atomic_save({"x": torch.ones(1)}, "~/a/model.pt")
    assert (home / "a" / "b.txt").read_text() == "text" and read_tensors("~/a/model.pt")["x"] == 1
    monkeypatch.setenv("SAM_WEIGHTS_DIR", "~/weights")
    assert weights_folder() == home / "weights"
    assert not list(tmp_path.rglob("~*"))
