"""A dry run of every bundle: what it says, what it opens, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from support.bundle.problems import problems_of
from support.bundle.run import (
    ADA,
    ADAPTERS,
    RRL,
    SEMISAM,
    WEAK,
    BundleRun,
    files_opened,
    use_fake_sam,
)
from support.networks.tiny_sam import use_tiny_sam
from support.process.dry_run import dry_run, rehearsing, stages_of
from support.semisam_plus.fake import use_fake_sams
from support.weakmedsam.fake import use_fake_backbone

BUNDLES = (RRL, SEMISAM, WEAK, ADA, ADAPTERS)
# what is asked for beside the tiny settings; the stages that have to be in the table, and how many labels of training
# cases may be opened
ASKED: dict[str, tuple[dict[str, Any], list[str], int]] = {
    "rrl_medsam": (
        {"sam": "mobile_sam"},
        ["load volumes", "atlas", "affine", "SAM features", "distill", "register", "registration", "train"],
        1,
    ),
    "semisam_plus": (
        {"generalist": "mobile_sam", "self_training": True, "min_gain": -1, "trial_cases": 1},
        ["load volumes", "control", "pseudo labels", "trial", "embed", "ask generalists", "train"],
        2,
    ),
    "weakmedsam": (
        {"backbone": "mobile_sam", "prior": "cam", "rounds": 1},
        ["load volumes", "SAM features", "cluster", "classify", "prior", "appearance", "pseudo labels", "review"],
        0,
    ),
    "ada_sam": (
        {},
        ["load volumes", "SAM features", "views", "classify", "adapt", "slice_unet", "pseudo labels", "review"],
        3,
    ),
    "sam_adapters": ({}, ["load volumes", "SAM features", "adapt", "pseudo labels", "train"], 2),
}


def use_fakes(bundle: BundleRun, patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Put small foundation models in the place of the real ones."""
    if bundle is RRL:
        use_fake_sam(patch, folder)
    elif bundle is SEMISAM:
        use_fake_sams(patch, folder)
    elif bundle is WEAK:
        use_fake_backbone(patch, folder)
    else:
        use_tiny_sam(patch, folder, bundle=bundle.name)


@pytest.mark.slow
@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda bundle: bundle.name)
def test_says_what_each_stage_costs_and_leaves_nothing(bundle, tiny_cohort, tmp_path, monkeypatch):
    settings, stages, labels = ASKED[bundle.name]
    use_fakes(bundle, monkeypatch, tmp_path / "weights")
    with files_opened() as opened:
        said = dry_run(bundle, tmp_path / "run", tiny_cohort, **settings)
    assert not (tmp_path / "run").exists()
    found = stages_of(said)
    assert [name for name in found if name in stages] == stages  # in their order
    assert {"train", "evaluate", "learn review"} <= set(found)
    assert re.search(r" 6 steps +\d", found["train"]) or bundle is RRL, found["train"]  # 2 epochs of 3
    assert found["load volumes"].split()[:2] == ["5", "cases"] and found["evaluate"].split()[:2] == ["2", "cases"]
    own = said[said.index("dry run: ") :]  # plans and warnings before it are of a run, and as long as there
    assert max(map(len, own.splitlines())) <= 80
    for line in ("plan: level 1: ", "time:  ", "memory: ", "disk:  ", "parameters: ", "opened: ", "nothing of it was"):
        assert line in said, line
    assert "Dice" not in said.split("dry run: ", 1)[1]  # of a network that has learnt nothing
    training = json.loads((tiny_cohort / "dataset.json").read_text(encoding="utf-8"))["training"]
    masks = {os.path.realpath(tiny_cohort / case["label"]) for case in training}
    assert len(masks & set(opened)) == labels


def test_is_refused_as_a_run_is(tiny_cohort, tmp_path):
    """What is wrong with the data is said in the same words, and nothing is left."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "dataset.json").write_text((tiny_cohort / "dataset.json").read_text(encoding="utf-8"))
    with pytest.raises(Exception) as real:  # MONAI wraps it
        SEMISAM.run(["train.json"], tmp_path / "real", data)
    with pytest.raises(Exception) as dry:
        dry_run(SEMISAM, tmp_path / "dry", data)
    assert problems_of(dry) == problems_of(real) and len(problems_of(dry)) > 5
    assert not (tmp_path / "dry").exists() and not rehearsing()
