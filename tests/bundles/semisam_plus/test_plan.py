"""Building the trainer of SemiSAM+ does nothing; its first run does what comes before, once."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from support.bundle.path import import_bundle
from support.bundle.run import SEMISAM, files_below, files_opened, subset_cohort
from support.semisam_plus.fake import use_fake_sams

FOLDERS = ("output", "ckpt", "cache")


@pytest.fixture(scope="module")
def cohort(tiny_cohort, tmp_path_factory) -> Path:
    return subset_cohort(tiny_cohort, tmp_path_factory.mktemp("plan_cohort"), training=4, test=1)


def read(folder: Path, data: Path, *others: str, **overrides) -> ConfigParser:
    """Return train.json, with the configs that are named, ready to be built in this process."""
    import_bundle(SEMISAM.name)
    parser = ConfigParser()
    parser.read_config([str(SEMISAM.configs / name) for name in ("train.json", *others)])
    folders = {f"{name}_dir": str(folder / name) for name in FOLDERS}
    places = {"bundle_root": str(SEMISAM.folder), "dataset_dir": str(data)}
    for key, value in {**SEMISAM.tiny, "generalist": "mobile_sam", **folders, **places, **overrides}.items():
        parser[key] = value
    return parser


def labels_in(data: Path, opened: list[str]) -> set[str]:
    return {Path(path).name for path in opened if Path(path).parent.name.startswith("labels") and str(data) in path}


def test_a_trainer_is_built_without_opening_a_label_or_writing_a_checkpoint(cohort, tmp_path, monkeypatch):
    use_fake_sams(monkeypatch, tmp_path)
    data = Path(os.path.realpath(cohort))
    with files_opened() as opened:
        trainer = read(tmp_path, data).get_parsed_content("train::trainer")
    assert not labels_in(data, opened) and len(trainer.plan.images) == 0 and trainer.plan.trial.rows == []
    assert trainer.state.epoch == 0 and files_below(tmp_path) == {"fake_sam.pt"}
    with files_opened() as opened:
        trainer.run()
    assert labels_in(data, opened) == {f"{case['case']}.nii.gz" for case in trainer.plan.cohort.labeled} | {
        f"{case['case']}.nii.gz" for case in trainer.plan.cohort.scored
    }
    with files_opened() as opened:
        trainer.plan.prepare()
    assert not labels_in(data, opened)


def test_run_json_says_what_each_part_was_built_with(cohort, tmp_path, monkeypatch):
    use_fake_sams(monkeypatch, tmp_path)
    parser = read(tmp_path, cohort, num_labeled="1", epochs=1, generalist_spacing="null", trial_cases="null")
    parser.get_parsed_content("train::trainer").run()
    run_json = json.loads((tmp_path / "output" / "run.json").read_text(encoding="utf-8"))
    noted = run_json["config"]
    assert list(noted) == ["run", "cohort", "generalists", "trial", "answers", "inferer", "train"]
    assert noted["cohort"]["num_labeled"] == 1 and noted["cohort"]["labeled"] is None
    assert noted["generalists"]["generalist"] == ["mobile_sam"] and noted["generalists"]["image_size"] == [256]
    assert noted["generalists"]["slice_options"] == {"members": 3, "jitter": 0.15} and noted["trial"]["cases"] == 0
    assert noted["answers"]["first"] == noted["answers"]["every"] == 1 and noted["answers"]["keep"] == 0.5
    learnt = noted["train"]["objective"]
    assert learnt["name"] == "MeanTeacher" and learnt["ema_alpha"] == 0.97 and learnt["consistency_weight"] == 0.1
    assert learnt["generalist_loss"] == {"weight": "exp", "tau": 0.05, "hard": True, "attach": 0.0, "form": "dice_ce"}
    assert list(run_json["stages"]) == ["load volumes", "trial", "embed", "train", "ask generalists"]


def test_the_published_protocol_goes_through_the_same_plan(cohort, tmp_path, monkeypatch):
    use_fake_sams(monkeypatch, tmp_path)
    small = {"pixdim": None, "roi_size": [32, 32, 16], "epochs": 1, "epoch_length": 1, "answer_every": 0}
    parser = read(tmp_path, cohort, "published.json", generalist="lite_medsam", prompt="box", **small)
    trainer = parser.get_parsed_content("train::trainer")
    trainer.run()
    assert type(trainer.optimizer).__name__ == "SGD" and trainer.optimizer.defaults["momentum"] == 0.9
    assert type(trainer.network.body).__name__ == "VNet" and trainer.plan.trial.rows == []
    augmentation = trainer.data_loader.dataset.transform.transforms[2]
    names = ["RandSpatialCropd", "RandRotate90d", "RandFlipd", "RandFlipd"]
    assert [type(step).__name__ for step in augmentation.transforms] == names
    losses = trainer.state.losses
    assert "generalist" in losses and not list(tmp_path.rglob("round_*"))  # asked in each step
