"""Whole runs of RRL-MedSAM: what they leave, what they open, and how they end when told nonsense."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from common.errors import find_input_error
from support.bundle.path import import_bundle
from support.bundle.predictions import assert_segmented
from support.bundle.run import (
    RRL,
    assert_same_weights,
    command,
    errors_of,
    files_below,
    files_opened,
    logged_losses,
    scores,
    subset_cohort,
    use_fake_sam,
    weights,
)

RESULTS = {"output/report.html", "output/run.json", "output/metrics.csv", "output/metrics.json", "ckpt/model.pt"}
RESULTS |= {"ckpt/review.json"}
RESULTS |= {"output/events.out.tfevents"}


@pytest.fixture(scope="module")
def trained(tiny_cohort, tmp_path_factory) -> dict:
    """One run of train.json: its folder, what it printed, and every file that it opened."""
    folder = tmp_path_factory.mktemp("trained")
    with files_opened() as opened:
        flow, said = RRL.run(["train.json"], folder, tiny_cohort, atlas=None)
    return {"folder": folder, "said": said, "opened": opened, "flow": flow}


def test_training_leaves_model_scores_and_report(trained):
    folder, said = trained["folder"], trained["said"]
    found = files_below(folder)
    checkpoints = {"ckpt/register.checkpoint.pt", "ckpt/train.checkpoint.pt"}
    assert {name for name in found if not name.startswith("cache/")} == RESULTS | checkpoints
    assert "sam is null" in said and "of 5 labelled training cases it reaches" in said
    assert "label propagation" in said and "overall" in said and "mean of 2 cases never seen" in said
    assert f"model:  {folder}/ckpt/model.pt" in said and f"report: {folder}/output/report.html" in said
    losses = logged_losses(folder / "output")
    assert losses and all(loss > 0 for loss in losses)
    assert {row["case"] for row in scores(folder / "output" / "metrics.json")} == {"sample_006", "sample_007"}


def test_monai_finds_all_properties_of_a_training(trained):
    assert not trained["flow"].check_properties()


def test_model_is_flat_and_fits_the_network_of_inference_json(trained):
    path = trained["folder"] / "ckpt" / "model.pt"
    tensors = weights(path)
    assert all(isinstance(value, torch.Tensor) for value in tensors.values())
    parser = ConfigParser()
    parser.read_config(RRL.configs / "inference.json")
    parser.update({"bundle_root": str(RRL.folder), "ckpt_path": str(path), "channels": RRL.tiny["channels"]})
    import_bundle("rrl_medsam")
    parser.get_parsed_content("network_def").load_state_dict(tensors, strict=True)


def test_no_label_is_opened_but_the_atlas_and_those_to_score(trained, tiny_cohort):
    dataset = json.loads((tiny_cohort / "dataset.json").read_text(encoding="utf-8"))
    paths = {
        (group, key): {os.path.realpath(tiny_cohort / case[key])
                      for case in dataset[group]}
        for group in ("training", "validation", "test") for key in ("image", "label")
    }  # fmt: skip
    seen = set(trained["opened"])
    # the spy does see what is opened
    assert paths["training", "image"] <= seen and paths["test", "label"] <= seen
    atlas = json.loads((trained["folder"] / "output" / "run.json").read_text(encoding="utf-8"))["results"]["atlas"]
    training = {Path(path).name for path in seen & paths["training", "label"]}
    assert training == {f"{atlas}.nii.gz"}


def test_evaluation_needs_data_and_model_alone_and_gives_the_same_scores(trained, tiny_cohort, tmp_path):
    (tmp_path / "ckpt").mkdir()
    shutil.copy(trained["folder"] / "ckpt" / "model.pt", tmp_path / "ckpt")
    _, said = RRL.run(["train.json", "evaluate.json"], tmp_path, tiny_cohort, atlas=None)
    assert files_below(tmp_path) == {"ckpt/model.pt", "output/metrics.csv", "output/metrics.json"}
    assert "overall" in said and "metrics.csv" in said
    wanted = scores(trained["folder"] / "output" / "metrics.json")
    for row, other in zip(scores(tmp_path / "output" / "metrics.json"), wanted, strict=True):
        assert row == pytest.approx(other, nan_ok=True), row


def test_inference_segments_a_folder_with_the_trained_model(trained, tiny_cohort, tmp_path):
    settings = {"ckpt_path": str(trained["folder"] / "ckpt" / "model.pt"), "output_dir": str(tmp_path)}
    settings |= {"bundle_root": str(RRL.folder), "channels": RRL.tiny["channels"], "tta_views": 0, "device": "cpu"}
    scans = tiny_cohort / "imagesTs"
    flow, said = RRL.run(["inference.json"], tmp_path / "none", scans, kind="inference", **settings)
    assert not flow.check_properties()
    assert_segmented(tiny_cohort / "imagesTs", tmp_path, range(6), said)


def test_paper_form_runs_online(tiny_cohort, tmp_path, monkeypatch):
    use_fake_sam(monkeypatch, tmp_path)
    data = subset_cohort(tiny_cohort, tmp_path / "data", training=3)
    paper = json.loads((RRL.configs / "paper.json").read_text(encoding="utf-8"))
    own = {key: paper[key] for key in RRL.tiny if key in paper}
    flow, said = RRL.run(["train.json", "paper.json"], tmp_path, data, sam="mobile_sam", **own)
    trainer = flow.parser.get_parsed_content("train#trainer")
    assert trainer.state.iteration == RRL.tiny["epochs"] * RRL.tiny["epoch_length"]
    assert {"similarity", "smooth", "general", "medical", "distillation"} <= set(trainer.state.losses)
    assert flow.parser.get_parsed_content("network").output == "medical"
    assert "epoch 2/2" in said and not list(tmp_path.rglob("round_2/*"))


def test_long_form_is_more_of_the_same():
    usual, long = (json.loads((RRL.configs / name).read_text(encoding="utf-8")) for name in ("train.json", "long.json"))
    changed = {key: value for key, value in long.items() if not key.startswith("_")}
    assert changed and all(value > usual[key] for key, value in changed.items())


def test_wrong_input_spares_the_checkpoints_of_the_run_before(trained, tmp_path):
    shutil.copytree(trained["folder"], tmp_path, dirs_exist_ok=True)
    before = files_below(tmp_path)
    run_json = (tmp_path / "output" / "run.json").read_text(encoding="utf-8")
    with pytest.raises(Exception) as error:  # MONAI wraps it
        RRL.run(["train.json"], tmp_path, tmp_path / "nowhere")
    assert find_input_error(error.value) is not None
    assert (
        files_below(tmp_path) == before and (tmp_path / "output" / "run.json").read_text(encoding="utf-8") == run_json
    )


# --- as a command

MAKES = {
    "models/model.pt",
    "models/review.json",
    "models/register.checkpoint.pt",
    "models/train.checkpoint.pt",
    "cache/run_id",
}
MAKES |= {f"eval/{name}" for name in ("run.json", "report.html", "metrics.csv", "metrics.json", "events.out.tfevents")}


@pytest.mark.slow
def test_same_results_in_the_same_places_from_any_folder(tiny_cohort, tmp_path):
    """The default data set is taken, of which a small one lies in its place."""
    models, made = [], []
    for number, place in enumerate(("repository", "bundle", "elsewhere")):
        root = tmp_path / str(number)
        bundle = RRL.copy(root / "bundles" / "rrl_medsam")
        shutil.copytree(tiny_cohort, bundle / "data" / "sample")
        (root / "elsewhere").mkdir()
        before = files_below(root)
        configs, more = bundle.relative_to(root) / "configs", []
        if place == "bundle":
            configs = Path("configs")
        if place == "elsewhere":
            configs, more = bundle / "configs", ["--bundle_root", str(bundle)]
        cwd = {"repository": root, "bundle": bundle, "elsewhere": root / "elsewhere"}[place]
        process = command([configs / "train.json"], *RRL.flags(epochs=1), *more, cwd=cwd)
        said, complaints = process.communicate(timeout=600)
        assert process.returncode == 0, complaints + said
        new = {Path(name).relative_to("bundles/rrl_medsam").as_posix() for name in files_below(root) - before}
        assert {name for name in new if not name.startswith("cache/labels/")} == MAKES
        models.append(bundle / "models" / "model.pt")
        made.append(new)
    assert made[0] == made[1] == made[2]
    assert_same_weights(models[1], models[0])
    assert_same_weights(models[2], models[0])


@pytest.mark.slow
def test_two_processes_train_one_model_on_an_odd_number_of_cases(tiny_cohort, tmp_path):
    bundle = RRL.copy(tmp_path / "bundle")
    data = subset_cohort(tiny_cohort, tmp_path / "data", training=4, test=1)
    configs = ["configs/train.json", "configs/multi_gpu_train.json"]
    flags = RRL.flags(dataset_dir=data, atlas=None, epoch_length=3, save_every=1)
    process = command(configs, *flags, cwd=bundle, processes=2)
    said, complaints = process.communicate(timeout=600)
    assert process.returncode == 0, complaints + said
    found = {name for name in files_below(bundle) if name.startswith(("models/", "eval/")) and ".gitkeep" not in name}
    assert found == (MAKES | {"models/train.checkpoint.pt.previous"}) - {"cache/run_id"}
    for line in ("atlas: sample_", "sam is null", "epoch 2/2", "mean of 1 cases", "model:  ", "report: "):
        assert sum(line in printed for printed in said.splitlines()) == 1, (line, said)
    assert {row["case"] for row in scores(bundle / "eval" / "metrics.json")} == {"sample_006"}
    assert len(scores(bundle / "eval" / "metrics.json")) == 5
    manifest = json.loads((bundle / "eval" / "run.json").read_text(encoding="utf-8"))
    assert manifest["config"]["run"]["world_size"] == 2 and manifest["results"]["unlabeled"] == 3


@pytest.mark.slow
def test_switches_work_from_the_command_line(tiny_cohort, tmp_path):
    bundle = RRL.copy(tmp_path / "bundle")
    data = subset_cohort(tiny_cohort, tmp_path / "data", training=3, validation=1)
    switches = ["--resume", "false", "--prompt", "false", "--online_labels", "true", "--atlas", "sample_001"]
    process = command(["configs/train.json"], *RRL.flags(dataset_dir=data), *switches, cwd=bundle)
    said, complaints = process.communicate(timeout=600)
    assert process.returncode == 0, complaints + said
    manifest = json.loads((bundle / "eval" / "run.json").read_text(encoding="utf-8"))
    assert manifest["results"]["atlas"] == "sample_001" and manifest["results"]["sam"] is None
    assert "similarity" in said.split("train  ")[-1]  # the registration goes on learning: labels are made online
    tensors = weights(bundle / "models" / "model.pt")
    assert not any("distill" in name or "registration" in name for name in tensors)


def test_all_that_is_wrong_with_the_data_is_said_at_once(tiny_cohort, tmp_path):
    data = subset_cohort(tiny_cohort, tmp_path / "data", training=3, test=1)
    names = json.loads((data / "dataset.json").read_text(encoding="utf-8"))
    cut, wrong = names["training"][1]["image"], names["test"][0]["label"]
    (data / cut).write_bytes((data / cut).read_bytes()[:2000])
    label = nibabel.load(data / wrong)
    nibabel.save(nibabel.Nifti1Image(np.asarray(label.dataobj) + np.uint8(7), label.affine), data / wrong)
    options = ["--bundle_root", str(RRL.folder), *RRL.flags(dataset_dir=data, sam="mobile_sam")]
    options += [f"--{name}_dir={tmp_path / name}" for name in ("output", "ckpt", "cache")]
    lines = errors_of(command([RRL.configs / "train.json"], *options, cwd=tmp_path))
    assert len(lines) == 2 and cut in lines[0] and wrong in lines[1] and "wanted only those declared" in lines[1]
    assert files_below(tmp_path) == {f"data/{name}" for name in files_below(data)}


@pytest.mark.slow
def test_missing_weights_end_the_run_before_it_began(tiny_cohort, tmp_path):
    options = ["--bundle_root", str(RRL.folder), *RRL.flags(dataset_dir=tiny_cohort, sam="mobile_sam")]
    options += [f"--{name}_dir={tmp_path / name}" for name in ("output", "ckpt", "cache")]
    empty = {"SAM_WEIGHTS_DIR": str(tmp_path / "none"), "TORCH_HOME": str(tmp_path / "none")}
    lines = errors_of(command([RRL.configs / "train.json"], *options, cwd=tmp_path, **empty))
    assert len(lines) == 1 and "found no weights at" in lines[0] and "weights mobile_sam" in lines[0]
    assert not files_below(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["output_dir", "ckpt_dir", "cache_dir"])
def test_a_file_in_place_of_an_output_folder(tiny_cohort, tmp_path, name):
    (tmp_path / "file").write_text("in the way")
    folders = {f"{kind}_dir": str(tmp_path / kind) for kind in ("output", "ckpt", "cache")} | {
        name: str(tmp_path / "file")
    }
    options = ["--bundle_root", str(RRL.folder), *RRL.flags(dataset_dir=tiny_cohort, **folders)]
    lines = errors_of(command([RRL.configs / "train.json"], *options, cwd=tmp_path))
    assert lines == [f"error: --{name} is {folders[name]!r}; wanted the path of a folder that can be written"]
    assert files_below(tmp_path) == {"file"}


@pytest.mark.slow
def test_evaluation_without_a_model_says_so(tiny_cohort, tmp_path):
    options = ["--bundle_root", str(RRL.folder), *RRL.flags(dataset_dir=tiny_cohort)]
    options += [f"--{name}_dir={tmp_path / name}" for name in ("output", "ckpt", "cache")]
    lines = errors_of(command([RRL.configs / "train.json", RRL.configs / "evaluate.json"], *options, cwd=tmp_path))
    assert len(lines) == 1 and "model.pt: no such file; wanted a trained model" in lines[0]
