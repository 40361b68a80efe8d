"""`~` is the home folder in every path of a run, and no folder of that name arises."""

from __future__ import annotations

import json
import sys

import pytest
from monai.bundle import ConfigParser

from support.bundle.run import ADA, RRL, SEMISAM, WEAK, BundleRun, subset_cohort


@pytest.mark.slow
@pytest.mark.parametrize("bundle", [RRL, SEMISAM, WEAK], ids=lambda bundle: bundle.name)
def test_a_run_leaves_no_folder_of_that_name(bundle: BundleRun, home, tiny_cohort, tmp_path):
    subset_cohort(tiny_cohort, home / "data", training=3, test=1)
    folders = {f"{name}_dir": f"~/{name}" for name in ("output", "ckpt", "cache")}
    bundle.run(["train.json"], tmp_path, "~/data", **folders)
    assert (home / "ckpt" / "model.pt").is_file() and (home / "output" / "report.html").is_file()
    assert (home / "cache").is_dir()
    bundle.run(["train.json", "evaluate.json"], tmp_path, "~/data", **folders | {"output_dir": "~/evaluation"})
    assert json.loads((home / "evaluation" / "metrics.json").read_text())["rows"]
    served = {key: bundle.tiny[key] for key in ("channels", "strides", "device") if key in bundle.tiny}
    parser = ConfigParser()
    parser.read_config(str(bundle.configs / "inference.json"))
    places = {"dataset_dir": "~/data/imagesTs", "output_dir": "~/predictions", "ckpt_path": "~/ckpt/model.pt"}
    parser.update({"bundle_root": str(bundle.folder), **places, **served})
    for step in ("initialize", "run"):
        parser.get_parsed_content(step)
    assert list((home / "predictions").rglob("*_seg.nii.gz"))
    assert not [path for path in tmp_path.rglob("~*")]


@pytest.mark.parametrize("bundle", [RRL, SEMISAM, WEAK, ADA], ids=lambda bundle: bundle.name)
def test_the_bundle_itself_may_lie_there(bundle: BundleRun, home, monkeypatch):
    (home / "bundle").symlink_to(bundle.folder)
    monkeypatch.setattr("sys.path", [])
    for name in ("train.json", "inference.json", "multi_gpu_train.json"):
        parser = ConfigParser()
        parser.read_config([str(bundle.configs / file) for file in dict.fromkeys(["train.json", name])])
        parser["bundle_root"] = "~/bundle"
        parser.get_parsed_content("initialize::0")

        assert sys.path.pop(0) == str(home / "bundle")
