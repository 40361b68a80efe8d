from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ignite.engine import Engine

from common.errors import InputError
from common.run.manifest import RunManifest, StageCost, settings_of


def _read(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


def test_written_file_holds_what_is_needed_to_repeat(tmp_path):
    config = {"dataset_dir": "/home/joe/set", "lr": 1e-3, "steps": np.int64(4), "weights": torch.ones(2), "x": object()}
    manifest = RunManifest(tmp_path / "eval", config, seed=7)
    manifest.results["dice"] = np.float32(0.5)
    assert manifest.write() == tmp_path / "eval" / "run.json"
    run = _read(tmp_path / "eval")
    assert run["seed"] == 7 and run["times_resumed"] == 0 and run["results"] == {"dice": 0.5}
    assert torch.__version__.startswith(run["versions"]["torch"]) and "monai" in run["versions"]
    assert run["config"] == {"dataset_dir": "…/set", "lr": 1e-3, "steps": 4, "weights": [1.0, 1.0], "x": "<object>"}
    assert "joe" not in (tmp_path / "eval" / "run.json").read_text(encoding="utf-8")


def test_stages_add_up_and_stand_in_the_order_they_began(tmp_path):
    manifest = RunManifest(tmp_path)
    with manifest.stage("train"):
        for _ in range(2):
            with manifest.stage("distill"):
                sum(range(10_000))
    stages = manifest.stages
    assert list(stages) == ["train", "distill"]
    assert stages["train"]["times_run"] == 1 and stages["distill"]["times_run"] == 2
    assert 0 < stages["distill"]["wall_seconds"] <= stages["train"]["wall_seconds"]
    assert stages["train"]["peak_memory_mib"] >= stages["distill"]["peak_memory_mib"] > 10


def test_stage_ends_with_an_exception(tmp_path):
    manifest = RunManifest(tmp_path)
    with pytest.raises(RuntimeError), manifest.stage("train"):
        raise RuntimeError
    before = manifest.stages["train"]["wall_seconds"]
    assert manifest.stages["train"]["wall_seconds"] == before
    manifest.end_stage("train")  # a second end and one of an unknown stage are no error
    manifest.end_stage("unknown")
    assert list(manifest.stages) == ["train"]


def test_resume_adds_to_what_a_killed_run_wrote(tmp_path):
    killed = RunManifest(tmp_path, {"lr": 1}, seed=0)
    with killed.stage("distill"):
        pass
    killed.results["atlas"] = "case_3"
    killed.start_stage("train")  # runs still when the process is killed
    killed.write()
    first = _read(tmp_path)["stages"]

    resumed = RunManifest(tmp_path, {"lr": 2}, seed=0, resume=True)
    with resumed.stage("train"):
        pass
    resumed.write()
    run = _read(tmp_path)
    assert run["times_resumed"] == 1 and run["resumes"][0]["changed"] == ["config.lr"]
    assert run["stages"]["distill"] == first["distill"]
    assert run["stages"]["train"]["times_run"] == 2
    assert run["stages"]["train"]["wall_seconds"] >= first["train"]["wall_seconds"]
    assert run["results"] == {"atlas": "case_3"} and run["started"] == killed.started
    assert RunManifest(tmp_path, resume=True).times_resumed == 2


def test_without_resume_an_old_file_is_replaced(tmp_path):
    old = RunManifest(tmp_path)
    with old.stage("train"):
        pass
    old.write()
    new = RunManifest(tmp_path)
    assert new.stages == {} and new.times_resumed == 0
    assert RunManifest(tmp_path / "nothing here", resume=True).times_resumed == 0


@pytest.mark.parametrize("text", ["", "[]", '{"started": 1}', '{"started": "", "results": {}, "stages": 3}'])
def test_resume_from_something_else_is_named(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(InputError, match=r"run\.json: not a run manifest"):
        RunManifest(tmp_path, resume=True)


def test_data_set_is_hashed(tmp_path):
    (tmp_path / "dataset.json").write_text('{"training": [{"image": "a.nii"}]}')
    (tmp_path / "a.nii").write_text("abc")
    manifest = RunManifest(tmp_path, dataset_dir=tmp_path)
    assert manifest.as_dict()["dataset"]["files"] == 1 and len(manifest.as_dict()["dataset"]["sha256"]) == 64


def test_handler_counts_an_engine_run(tmp_path):
    manifest = RunManifest(tmp_path)
    seen = []
    engine = Engine(lambda engine, batch: seen.append((tmp_path / "run.json").is_file()))
    StageCost(SimpleNamespace(manifest=manifest), "register").attach(engine)
    engine.run([0, 1], max_epochs=2)
    assert seen == [False, False, True, True]  # written after each epoch, so that a kill loses one epoch's cost
    assert _read(tmp_path)["stages"]["register"]["times_run"] == 1
    cost = manifest.stages["register"]["wall_seconds"]
    assert manifest.stages["register"]["wall_seconds"] == cost  # the clock stands


def test_parts_are_noted_with_what_they_were_built_with_and_keep(tmp_path):
    class Labeller:
        def __init__(self, keep, folder, network):
            self.keep, self.folder, self.network = keep, folder, network
            self.round = 3

    assert settings_of(Labeller(0.5, "/a/b/labels", object())) == {"keep": 0.5, "folder": "/a/b/labels"}
    assert settings_of(SimpleNamespace(settings={"seed": 1, "device": object()})) == {"seed": 1}
    manifest = RunManifest(tmp_path)
    manifest.note("labeller", settings_of(Labeller(0.5, "/a/b/labels", None)))
    assert manifest.as_dict()["config"]["labeller"] == {"keep": 0.5, "folder": "…/labels", "network": None}


def test_a_resumed_run_says_which_settings_of_a_part_differ(tmp_path):
    first = RunManifest(tmp_path)
    first.note("labeller", {"keep": 0.5, "bridges": 5})
    first.note("train", {"max_epochs": 2})
    first.write()
    again = RunManifest(tmp_path, resume=True)
    assert again.resumes[-1]["changed"] == []
    again.note("labeller", {"keep": 0.7, "bridges": 5})
    assert again.resumes[-1]["changed"] == ["config.labeller.keep"]  # the other part is not known to differ
    again.note("train", {"max_epochs": 2})
    assert again.resumes[-1]["changed"] == ["config.labeller.keep"]


def test_no_folder_reaches_the_file_however_it_is_written(tmp_path):
    places = [
        "../patients/Meier",
        "patients/Hans Meier/scan",
        "~meier/scan",
        "s3://meier/scan",
        "$MEIER/scan",
        "~meier",
    ]
    manifest = RunManifest(tmp_path / "Meier run", config={"run": {"dataset_dir": places[1]}})
    manifest.note("cohort", {f"{number}_dir": place for number, place in enumerate(places[1:])})
    manifest.results = {"failed": [f"{places[0]}/a b/c.nii: empty, wanted '{places[1]}'", "C:\\Meier\\scan"]}
    assert "eier" not in manifest.write().read_text(encoding="utf-8")
