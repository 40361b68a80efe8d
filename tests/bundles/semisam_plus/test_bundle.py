"""Whole runs of SemiSAM+: what they leave, what they open, where they go on, and how they end when told nonsense."""

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

from support.bundle.path import import_bundle
from support.bundle.predictions import assert_segmented
from support.bundle.resumed import curves, kill_and_resume, quick_and_slow, run_in_a_piece
from support.bundle.run import (
    SEMISAM,
    BundleRun,
    assert_same_weights,
    command,
    errors_of,
    files_below,
    files_opened,
    logged_losses,
    scores,
    subset_cohort,
    weights,
)
from support.semisam_plus.fake import use_fake_sams

RESULTS = {"output/report.html", "output/run.json", "output/metrics.csv", "output/metrics.json", "ckpt/model.pt"}
RESULTS |= {"output/events.out.tfevents", "ckpt/train.checkpoint.pt", "ckpt/review.json"}
# a tiny specialist soon sees something, and the gate stands open to it
ASKED = {"generalist": "mobile_sam", "epoch_length": 8, "learning_rate": 0.02, "min_agreement": 0.0}


@pytest.fixture(scope="module")
def cohort(tiny_cohort, tmp_path_factory) -> Path:
    """The tiny cohort with one structure, which a tiny specialist learns in a few steps."""
    folder = subset_cohort(tiny_cohort, tmp_path_factory.mktemp("semisam_cohort"), training=5, validation=1, test=2)
    content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    content["labels"] = {"0": "background", "1": "organ"}
    (folder / "dataset.json").write_text(json.dumps(content))
    for path in folder.glob("labels*/*.nii.gz"):
        label = nibabel.load(path)
        nibabel.save(nibabel.Nifti1Image((np.asarray(label.dataobj) > 0).astype(np.uint8), label.affine), path)
    return folder


@pytest.fixture(scope="module")
def trained(cohort, tmp_path_factory) -> dict:
    """One run of train.json with a generalist: its folder, what it printed, every file that it opened, its SAMs."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch, files_opened() as opened:
        sams = use_fake_sams(patch, folder)
        before = {}
        patch.setattr(
            import_bundle("semisam_plus", "generalists.answers").GeneralistAnswers, "prepare", noting(sams, before)
        )
        flow, said = SEMISAM.run(["train.json"], folder, cohort, **ASKED, generalist_from=2, epochs=3)
    return {"folder": folder, "said": said, "opened": opened, "flow": flow, "sams": sams, "before": before}


def noting(sams: dict, before: dict):
    """Return `prepare`, which notes the generalists' weights first."""
    prepare = import_bundle("semisam_plus", "generalists.answers").GeneralistAnswers.prepare

    def noted(self) -> None:
        before.update({name: value.clone() for name, value in sams["mobile_sam"].state_dict().items()})
        prepare(self)

    return noted


def test_training_leaves_model_scores_and_report(trained):
    folder, said = trained["folder"], trained["said"]
    found = {name for name in files_below(folder) if not name.startswith(("cache/", "fake_sam"))}
    assert found == RESULTS | {"ckpt/train.checkpoint.pt.previous"} or found == RESULTS
    assert "mean of 2 cases never seen" in " ".join(said.split()) and f"model:  {folder}/ckpt/model.pt" in said
    losses = logged_losses(folder / "output")
    assert losses and all(loss > 0 for loss in losses)
    rows = scores(folder / "output" / "metrics.json")
    assert {row["case"] for row in rows} == {"sample_006", "sample_007"}
    asked = [f"mobile_sam {prompt} dice" for prompt in ("box, box+mask", "point")]
    for column in ("dice", "hd95", "cleaned dice", "cleaned hd95", *asked):
        assert all(column in row for row in rows), column
    manifest = json.loads((folder / "output" / "run.json").read_text(encoding="utf-8"))
    assert manifest["results"]["generalists"] == ["mobile_sam"] and manifest["results"]["labeled"] == 2
    compared = {"method", "cleaned", "mobile_sam box, box+mask", "mobile_sam point"}
    assert all(set(row) == compared for row in manifest["results"]["dice"].values())
    assert {"load volumes", "embed", "ask generalists", "train", "evaluate"} <= set(manifest["stages"])
    page = (folder / "output" / "report.html").read_text(encoding="utf-8")
    asked = "mobile_sam box, box+mask"
    for words in ("answers of the generalists", asked, "Cleaned is the control", "frozen; used in training"):
        assert words in page, words


def test_a_refused_generalist_is_not_asked_by_evaluation_nor_after_resuming(cohort, tmp_path, monkeypatch):
    sams, asked = use_fake_sams(monkeypatch, tmp_path), []
    panel = import_bundle("semisam_plus", "generalists.panel").GeneralistPanel
    embed = panel.embed
    monkeypatch.setattr(panel, "embed", lambda self, image: (asked.append(list(self.teaching)), embed(self, image))[1])
    refused = {**ASKED, "generalist": ["mobile_sam", "lite_medsam"], "min_gain": 2.0, "epoch_length": 2, "epochs": 1}
    for resume in ("false", "true"):
        asked.clear()
        SEMISAM.run(["train.json"], tmp_path, cohort, **refused, resume=resume)
        assert asked == [[0, 1]] * 2  # both labelled volumes, by the trial
        rows = scores(tmp_path / "output" / "metrics.json")
        assert rows and not any("sam" in column for row in rows for column in row)
        manifest = json.loads((tmp_path / "output" / "run.json").read_text(encoding="utf-8"))
        assert all(set(row) == {"method", "cleaned"} for row in manifest["results"]["dice"].values())
        assert [line["teaches"] for line in manifest["results"]["trial"]] == [False, False]
        page = (tmp_path / "output" / "report.html").read_text(encoding="utf-8")
        assert page.count("mobile_sam was refused") == 1 and "Trial of the generalists" in page
        assert "mobile_sam box" not in page and "prediction, truth" in page
    assert all(sam.slices for sam in sams.values())


def test_no_file_of_results_or_checkpoints_names_a_folder(trained, cohort):
    folder = trained["folder"]
    files = [path for name in ("output", "ckpt") for path in (folder / name).rglob("*") if path.is_file()]
    contents = {path.name: path.read_bytes() for path in files}
    assert {"model.pt", "train.checkpoint.pt", "run.json", "report.html", "metrics.csv"} <= contents.keys()
    assert not [name for name, content in contents.items() if os.fsencode(folder.parent) in content]
    for place in (folder, cohort, cohort.parent, SEMISAM.folder):
        assert not [name for name, content in contents.items() if os.fsencode(place) in content], place


def test_specialist_learns_from_a_generalist_that_does_not_change(trained):
    history = trained["flow"].parser.get_parsed_content("train#trainer").progress.history
    heard = dict(history["generalist"])
    assert heard[1] == 0 and heard[2] > 0 and heard[3] > 0
    now = trained["sams"]["mobile_sam"].state_dict()
    assert trained["before"] and all(torch.equal(value, now[name]) for name, value in trained["before"].items())
    assert not any("sam" in name or "generalist" in name for name in weights(trained["folder"] / "ckpt" / "model.pt"))


def test_monai_finds_all_properties_of_a_training(trained):
    assert not trained["flow"].check_properties()


def test_model_is_flat_and_fits_the_network_of_inference_json(trained):
    path = trained["folder"] / "ckpt" / "model.pt"
    tensors = weights(path)
    assert all(isinstance(value, torch.Tensor) for value in tensors.values())
    parser = ConfigParser()
    parser.read_config(SEMISAM.configs / "inference.json")
    sizes = {key: SEMISAM.tiny[key] for key in ("channels", "strides")}
    parser.update({"bundle_root": str(SEMISAM.folder), "ckpt_path": str(path), **sizes})
    import_bundle("semisam_plus")
    parser.get_parsed_content("network_def").load_state_dict(tensors, strict=True)


def test_labels_of_unlabelled_cases_are_never_opened(trained, cohort):
    dataset = json.loads((cohort / "dataset.json").read_text(encoding="utf-8"))
    paths = {
        (group, key): {os.path.realpath(cohort / case[key])
                      for case in dataset[group]}
        for group in ("training", "validation", "test") for key in ("image", "label")
    }  # fmt: skip
    seen = set(trained["opened"])
    assert paths["training", "image"] <= seen and paths["test", "label"] <= seen  # the spy does see what is opened
    labelled = {case["label"] for case in trained["flow"].parser.get_parsed_content("cohort").labeled}
    assert seen & paths["training", "label"] == {os.path.realpath(path) for path in labelled}
    assert len(labelled) == 2 and not seen & paths["validation", "label"]


def test_evaluation_needs_data_and_model_alone_and_gives_the_same_scores(trained, cohort, tmp_path):
    (tmp_path / "ckpt").mkdir()
    shutil.copy(trained["folder"] / "ckpt" / "model.pt", tmp_path / "ckpt")
    _, said = SEMISAM.run(["train.json", "evaluate.json"], tmp_path, cohort)
    assert files_below(tmp_path) == {"ckpt/model.pt", "output/metrics.csv", "output/metrics.json"}
    assert "overall" in said and "metrics.csv" in said
    wanted = scores(trained["folder"] / "output" / "metrics.json")
    for row, other in zip(scores(tmp_path / "output" / "metrics.json"), wanted, strict=True):
        assert row == pytest.approx({key: other[key] for key in row}, nan_ok=True), row


@pytest.mark.parametrize("roi_size", [None, [16, 16, 16]])
def test_inference_segments_a_folder_with_the_trained_model(trained, cohort, tmp_path, roi_size):
    settings = {"ckpt_path": str(trained["folder"] / "ckpt" / "model.pt"), "output_dir": str(tmp_path)}
    settings |= {key: SEMISAM.tiny[key] for key in ("channels", "strides", "device")} | {"roi_size": roi_size}
    inference = BundleRun(SEMISAM.name, {}, {})
    flow, said = inference.run(["inference.json"], tmp_path / "none", cohort / "imagesTs", "inference", **settings)
    assert not flow.check_properties()
    assert_segmented(cohort / "imagesTs", tmp_path, (0, 1), said)


@pytest.mark.parametrize(
    "method", ["supervised", "dtc", *(pytest.param(name, marks=pytest.mark.slow) for name in ("ua_mt", "dan", "cps"))]
)
def test_a_method_runs_without_any_generalist(cohort, tmp_path, method):
    flow, said = SEMISAM.run(["train.json"], tmp_path, cohort, method=method, epochs=1, epoch_length=1)
    losses = flow.parser.get_parsed_content("train#trainer").state.losses
    assert "generalist" not in losses and ("consistency" in losses) == (method != "supervised")
    assert "SemiSAM+" not in said and not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize("answer_every", [1, 0])
def test_two_generalists_in_rounds_and_online(cohort, tmp_path, monkeypatch, answer_every):
    built = use_fake_sams(monkeypatch, tmp_path)
    options = {**ASKED, "answer_every": answer_every, "roi_size": [16, 16, 8]}
    options["generalist"] = ["mobile_sam", "lite_medsam"]
    flow, _ = SEMISAM.run(["train.json"], tmp_path, cohort, **options)
    assert set(built) == {"mobile_sam", "lite_medsam"}
    assert "lite_medsam box, box+mask dice" in scores(tmp_path / "output" / "metrics.json")[0]
    history = dict(flow.parser.get_parsed_content("train#trainer").progress.history["generalist"])
    assert history[2] > 0 and bool(list(tmp_path.rglob("round_*"))) == (answer_every == 1)


def test_the_preset_of_knowsam_learns_prompts_and_from_mixes(cohort, tmp_path, monkeypatch):
    use_fake_sams(monkeypatch, tmp_path)
    flow, _ = SEMISAM.run(["train.json", "knowsam.json"], tmp_path, cohort, **ASKED, prompt="learned", trial_cases=0)
    losses = flow.parser.get_parsed_content("train#trainer").state.losses
    assert {"second", "fused", "entropy", "mixed", "consistency", "generalist"} <= set(losses)
    panel = flow.parser.get_parsed_content("panel")
    assert panel.generalists[0].learned.told[0][0].in_features == 64
    noted = json.loads((tmp_path / "output" / "run.json").read_text(encoding="utf-8"))
    assert noted["results"]["method"] == "KnowSAM"
    learnt = noted["config"]["train"]["objective"]
    assert learnt["generalist_loss"]["form"] == "distillation" and learnt["mix_from"] == 0.24
    # another process knows nothing of the prompts, and scores the specialist all the same
    overrides = {**ASKED, "prompt": "learned", "trial_cases": 0, "ckpt_path": str(tmp_path / "ckpt" / "model.pt")}
    configs = ["train.json", "knowsam.json", "evaluate.json"]
    SEMISAM.run(configs, tmp_path / "again", cohort, **overrides, output_dir=str(tmp_path / "scored"))
    rows, again = (scores(tmp_path / name / "metrics.json") for name in ("output", "scored"))
    assert "mobile_sam learned dice" in rows[0] and "mobile_sam learned dice" not in again[0]
    assert [row["dice"] for row in again] == pytest.approx([row["dice"] for row in rows])


# --- interrupted runs

KILLS = {"in round 2": ("round_2", 2, ""), "before round 4": ("train", 3, "after"), "the end": ("train", 4, "before")}
QUICK = ("in round 2",)
LONG = {**ASKED, "epochs": 4, "save_every": 1, "dropout": 0.1}


@pytest.fixture(scope="module")
def uninterrupted(cohort, tmp_path_factory) -> dict:
    return run_in_a_piece(SEMISAM, tmp_path_factory.mktemp("uninterrupted"), cohort, use_fake_sams, **LONG)


@pytest.mark.parametrize("kill", quick_and_slow(KILLS, QUICK))
def test_resumed_run_ends_bit_for_bit_as_one_in_a_piece(kill, uninterrupted, cohort, tmp_path, monkeypatch):
    use_fake_sams(monkeypatch, tmp_path)
    flow = kill_and_resume(SEMISAM, KILLS[kill], tmp_path, cohort, monkeypatch, **LONG)
    assert curves(flow) == uninterrupted["curves"]
    assert_same_weights(tmp_path / "ckpt" / "model.pt", uninterrupted["folder"] / "model.pt")


# --- as a command


@pytest.mark.slow
def test_two_processes_train_one_model(cohort, tmp_path):
    bundle = SEMISAM.copy(tmp_path / "bundle")
    configs = ["configs/train.json", "configs/multi_gpu_train.json"]
    process = command(configs, *SEMISAM.flags(dataset_dir=cohort, epoch_length=3), cwd=bundle, processes=2)
    said, complaints = process.communicate(timeout=600)
    assert process.returncode == 0, complaints + said
    for line in ("epoch 2/2", "mean of 2 cases", "model:  ", "report: "):
        assert sum(line in printed for printed in said.splitlines()) == 1, (line, said)
    manifest = json.loads((bundle / "eval" / "run.json").read_text(encoding="utf-8"))
    assert {row["case"] for row in scores(bundle / "eval" / "metrics.json")} == {"sample_006", "sample_007"}
    assert manifest["results"]["unlabeled"] == 3


@pytest.mark.slow
def test_switches_work_from_the_command_line(cohort, tmp_path):
    bundle = SEMISAM.copy(tmp_path / "bundle")
    switches = ["--labeled", "sample_002", "--num_labeled", "null", "--method", "cps", "--hard_answer", "false"]
    process = command(["configs/train.json"], *SEMISAM.flags(dataset_dir=cohort), *switches, cwd=bundle)
    said, complaints = process.communicate(timeout=600)
    assert process.returncode == 0, complaints + said
    results = json.loads((bundle / "eval" / "run.json").read_text(encoding="utf-8"))["results"]
    assert results["labeled"] == 1 and results["unlabeled"] == 4 and results["method"] == "CPS"
    wrong = command(["configs/train.json"], *SEMISAM.flags(dataset_dir=cohort, num_labeled=9), cwd=bundle)
    assert "num_labeled is 9" in errors_of(wrong)[0]


def test_a_run_that_is_done_gets_a_plain_control_by_resuming_it(cohort, tmp_path):
    _, said = SEMISAM.run(["train.json"], tmp_path, cohort)
    assert "verdict: none: the same command with --plain_control true --resume true" in said
    model = weights(tmp_path / "ckpt" / "model.pt")
    _, said = SEMISAM.run(["train.json"], tmp_path, cohort, plain_control="true", resume="true")
    assert "control" in said and "\ntrain " not in said  # the method itself is trained already
    resumed = weights(tmp_path / "ckpt" / "model.pt")
    assert model.keys() == resumed.keys() and all(torch.equal(model[name], resumed[name]) for name in model)
    results = json.loads((tmp_path / "output" / "run.json").read_text(encoding="utf-8"))["results"]
    assert [found["control"] for found in results["verdicts"]] == ["plain UNet of the same labels"]
    # what was scored as the control is what its file serves
    served = tmp_path / "served"
    overrides = {"ckpt_path": str(tmp_path / "ckpt" / "control.pt"), "output_dir": str(served)}
    SEMISAM.run(["train.json", "evaluate.json"], tmp_path, cohort, **overrides)
    found = {(row["case"], row["label"]): row["dice"] for row in scores(served / "metrics.json")}
    wanted = {(row["case"], row["label"]): row["plain dice"] for row in scores(tmp_path / "output" / "metrics.json")}
    assert found == pytest.approx(wanted, nan_ok=True) and found
