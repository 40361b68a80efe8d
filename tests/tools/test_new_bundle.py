"""The bundle of docs/adding_a_method.md, made from that very page."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import InputError
from support.bundle.run import subset_cohort
from support.bundle.sources import copy_sources
from tools.configs import merge
from tools.new_bundle import new_bundle, write_configs
from tools.pack import pack
from tools.scan import scan
from tools.scanning.findings import DEFAULT_ALLOW, read_allow_list

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "adding_a_method.md").read_text(encoding="utf-8")
NAME = "labels_alone"
SMALL = {"channels": [4, 8], "strides": [2]}
TINY = ["--epochs=2", "--epoch_length=2", "--batch_size=1", "--max_voxels=4096"]
MOST_COPIED = 40
# what the page has its author add to the allow-list
NEW_TARGETS = {
    *("EnsureTyped", "scripts.cohort.LabeledCohort", "scripts.common.report.finish.Finish"),
    *("scripts.objective.LabelObjective", "scripts.plan.LabelsPlan"),
}


def blocks() -> dict[str, str]:
    """Return the files that the page shows: path in the bundle -> text."""
    return dict(re.findall(r"^`((?:scripts|configs)/[\w.]+)`\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))


def run(folder: Path, config: str, *flags: str) -> str:
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", config, "--device=cpu", *flags]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    copy_sources(ROOT / "common", folder / "common")
    bundle = new_bundle(folder, NAME, "3D segmentation learnt from labelled volumes alone")
    for name, text in blocks().items():
        path = bundle / name
        if name.startswith("configs/"):
            begun, written = json.loads(path.read_text()), json.loads(text) | SMALL
            for key in begun.keys() & written.keys():  # a class of its own is written over
                if isinstance(begun[key], dict) and "_target_" in written[key]:
                    begun[key]["_target_"] = written[key]["_target_"]
            text = json.dumps(merge(begun, written))
        path.write_text(text)
    write_configs(bundle)
    return folder


@pytest.mark.slow
def test_it_trains_predicts_is_scored_packed_and_scanned(repository, tiny_cohort, tmp_path):
    data = subset_cohort(tiny_cohort, tmp_path / "data", training=3, test=1)
    configs = f"bundles/{NAME}/configs"
    said = run(repository, f"{configs}/train.json", f"--dataset_dir={data}", *TINY)
    bundle = repository / "bundles" / NAME
    assert "prediction" in said and (bundle / "models" / "model.pt").is_file()
    assert json.loads((bundle / "eval" / "run.json").read_text())["config"]["train"]["max_epochs"] == 2
    run(repository, f"{configs}/inference.json", f"--dataset_dir={data / 'imagesTs'}")
    assert len(list((bundle / "eval" / "predictions").rglob("*_seg.nii.gz"))) == 1
    both = f"['{configs}/train.json','{configs}/evaluate.json']"
    run(repository, both, f"--dataset_dir={data}")
    assert (bundle / "eval" / "evaluation" / "metrics.csv").is_file()
    path, _ = pack(bundle, tmp_path / "dist", bundle / "models" / "model.pt")
    allow = read_allow_list(DEFAULT_ALLOW)
    allow = replace(allow, targets=(*allow.targets, *NEW_TARGETS))
    assert [finding for finding in scan(path, allow) if not finding.allowed] == []


def test_its_author_copies_few_lines(repository):
    """Lines that stand in a bundle of the repository as well, and did not come from a template."""
    others = {
        line.strip()
        for path in (ROOT / "bundles").rglob("*")
        if path.suffix in (".py", ".json") and path.is_file() and "data" not in path.parts
        for line in path.read_text(encoding="utf-8").splitlines()
    }
    written = [line.strip() for text in blocks().values() for line in text.splitlines()]
    copied = [line for line in written if len(line) > 3 and line in others]
    assert 0 < len(copied) <= MOST_COPIED, len(copied)


def test_the_folder_is_begun_once_and_by_a_name(repository, tmp_path):
    with pytest.raises(InputError, match="is there already"):
        new_bundle(repository, NAME, "again")
    with pytest.raises(InputError, match="wanted small letters"):
        new_bundle(tmp_path, "Two Words", "x")
    assert not (tmp_path / "bundles").exists()
