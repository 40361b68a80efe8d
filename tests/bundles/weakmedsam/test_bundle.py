"""Whole runs of WeakMedSAM: what they leave, what they open, and how they end when told nonsense."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from torch.optim.lr_scheduler import OneCycleLR

from support.bundle.path import import_bundle
from support.bundle.predictions import assert_segmented
from support.bundle.run import (
    WEAK,
    BundleRun,
    command,
    errors_of,
    files_below,
    files_opened,
    logged_losses,
    scores,
    subset_cohort,
    weights,
)
from support.weakmedsam.fake import use_fake_backbone

STAGES = ("classify", "appearance", "train")
RESULTS = {"output/report.html", "output/run.json", "output/metrics.csv", "output/metrics.json", "ckpt/model.pt"}
RESULTS |= {"ckpt/review.json"}
RESULTS |= {"output/events.out.tfevents", "output/pseudo_labels/report.html"}
CASES = [f"sample_{number:03d}" for number in range(5)]
CAM = {"backbone": "mobile_sam", "prior": "cam", "walk": "points", "prompt_grid": 2, "walk_steps": 2}


@pytest.fixture(scope="module")
def trained(tiny_cohort, tmp_path_factory) -> dict:
    """One run of train.json with every stage: its folder, what it printed, every file that it opened."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch, files_opened() as opened:
        backbone = use_fake_backbone(patch, folder / "weights")
        flow, said = WEAK.run(["train.json"], folder, tiny_cohort, **CAM)
    return {"folder": folder, "said": said, "opened": opened, "flow": flow, "backbone": backbone}


def test_training_leaves_model_scores_and_report(trained):
    folder, said = trained["folder"], trained["said"]
    found = {name for name in files_below(folder) if not name.startswith(("cache/", "weights/"))}
    checkpoints = {f"ckpt/{stage}.checkpoint.pt" for stage in STAGES}
    volumes = {f"output/pseudo_labels/{case}.nii.gz" for case in CASES}
    assert {name for name in found if not name.endswith(".previous")} == RESULTS | checkpoints | volumes
    assert "mean of 2 cases never seen" in " ".join(said.split()) and f"model:  {folder}/ckpt/model.pt" in said
    losses = logged_losses(folder / "output")
    assert losses and all(loss > 0 for loss in losses)
    rows = scores(folder / "output" / "metrics.json")
    assert {row["case"] for row in rows} == {"sample_006", "sample_007"}
    for column in ("dice", "prior dice", "centre dice", "auc", "index auc", "slice dice"):
        assert all(column in row for row in rows), column
    manifest = json.loads((folder / "output" / "run.json").read_text(encoding="utf-8"))
    results = manifest["results"]
    assert results["backbone"] == "mobile_sam" and results["prior"] == "cam" and results["learnt_from"] == 5
    assert all(0 < share < 1 for share in results["positive_share"].values())
    assert all(set(row) == {"method", "prior", "centre", "gain"} - {"gain"} for row in results["dice"].values())
    config = manifest["config"]
    assert config["features"]["backbone"] == "mobile_sam" and config["labeller"]["prior"] == "cam"
    assert config["classifier"]["hidden"] == 8 and config["walk"]["guide"] == "points"
    assert [config[name]["max_epochs"] for name in STAGES] == [1, 2, 2] and config["run"]["world_size"] == 1
    stages = {"load volumes", "SAM features", "cluster", "classify", "prior", "appearance", "pseudo labels", "review"}
    assert stages | {"train", "evaluate"} <= set(manifest["stages"])


def test_each_round_of_appearance_learns_at_its_own_pace_for_the_labels_groups(trained):
    parsed = trained["flow"].parser.get_parsed_content
    labeller, stage = parsed("labeller"), parsed("appearance")
    network, optimizer, scheduler = stage.network, stage.optimizer, stage.lr_scheduler
    assert labeller.walk_passes == 3 and labeller.learn_location and labeller.rounds == 2
    assert labeller.groups == [0, 1, 2, 3, 4]  # organs of the abdomen share slices
    assert network.layers[-1].out_channels == 5 and stage.objective.groups == labeller.groups
    length = len(stage.data_loader)
    assert scheduler.T_0 == length and scheduler.last_epoch == 2 * length and scheduler.T_cur == 0  # an epoch a round
    assert optimizer.param_groups[0]["lr"] == parsed("appearance_rate") == 0.01  # as a third one would begin


def test_activation_maps_without_rounds_learn_a_location(tiny_cohort, tmp_path, monkeypatch):
    use_fake_backbone(monkeypatch, tmp_path / "weights")
    folder = subset_cohort(tiny_cohort, tmp_path / "cohort", training=2, test=1)
    options = {**CAM, "rounds": "null", "walk": "intensity", "epochs": 1}
    flow, _ = WEAK.run(["train.json"], tmp_path, folder, **options)
    labeller = flow.parser.get_parsed_content("labeller")
    assert (labeller.rounds, labeller.walk_passes, labeller.round) == (0, 3, 2)
    assert {path.parent.name for path in (tmp_path / "cache" / "labels").rglob("*.safetensors")} == {
        "prior", "round_1", "round_2", "labels",
    }  # fmt: skip
    assert not list((tmp_path / "ckpt").glob("appearance*")) and (tmp_path / "ckpt" / "model.pt").exists()


def test_report_says_what_it_was_taught_and_what_it_must_beat(trained):
    page = (trained["folder"] / "output" / "report.html").read_text(encoding="utf-8")
    for words in (
        "presence bits of the slices",
        "of the axial slices are positive",
        "slice index alone",
        "chosen without",
    ):
        assert words in page, words
    for words in ("centre ellipse + bits", "never with a volume Dice", "which it learnt from", "used in training only"):
        assert words in page, words
    review = (trained["folder"] / "output" / "pseudo_labels" / "report.html").read_text(encoding="utf-8")
    assert all(case in review for case in CASES)
    assert f"{len(CASES)} of {len(CASES)} masks are learnt from" in review
    for words in ("typical volume (ml)", "positive slices (%)", "agreement", "consistency", "the list reject"):
        assert words in review, words


def test_pseudo_labels_lie_on_each_scans_own_grid_and_respect_the_bits(trained, tiny_cohort):
    content = json.loads((tiny_cohort / "dataset.json").read_text(encoding="utf-8"))
    for case in content["training"]:
        source = nibabel.load(tiny_cohort / case["image"])
        name = Path(case["image"]).name
        written = nibabel.load(trained["folder"] / "output" / "pseudo_labels" / name)
        assert written.shape == source.shape and np.allclose(written.affine, source.affine, atol=1e-4)
        label = np.asarray(written.dataobj)
        assert set(np.unique(label)) <= set(range(6)) and label.any()
        bits = json.loads((tiny_cohort / case["slice_labels"]).read_text(encoding="utf-8"))
        others = tuple(axis for axis in range(3) if axis != bits["axis"])
        for value, known in bits["labels"].items():
            found = np.flatnonzero((label == int(value)).any(axis=others))
            positive = np.flatnonzero(known or [0])
            # the common grid is coarser: a slice and a half of it may reach over the end
            assert all(np.abs(positive - index).min() <= 3 for index in found), (name, value)


def test_no_mask_of_a_training_case_is_ever_opened(trained, tiny_cohort):
    dataset = json.loads((tiny_cohort / "dataset.json").read_text(encoding="utf-8"))
    paths = {
        (group, key): {os.path.realpath(tiny_cohort / case[key]) for case in dataset[group] if key in case}
        for group in ("training", "validation", "test")
        for key in ("image", "label", "slice_labels")
    }
    seen = set(trained["opened"])
    assert all("label" in case for case in dataset["training"])  # they are there to be opened
    assert paths["training", "image"] | paths["training", "slice_labels"] | paths["test", "label"] <= seen
    assert not seen & (paths["training", "label"] | paths["validation", "label"])


def test_monai_finds_all_properties_of_a_training(trained):
    assert not trained["flow"].check_properties()


def test_model_is_flat_and_fits_the_network_of_inference_json(trained):
    path = trained["folder"] / "ckpt" / "model.pt"
    tensors = weights(path)
    assert all(isinstance(value, torch.Tensor) for value in tensors.values())
    assert not any(word in name for name in tensors for word in ("backbone", "classifier", "appearance"))
    parser = ConfigParser()
    parser.read_config(WEAK.configs / "inference.json")
    sizes = {key: WEAK.tiny[key] for key in ("channels", "strides")}
    parser.update({"bundle_root": str(WEAK.folder), "ckpt_path": str(path), **sizes})
    import_bundle("weakmedsam")
    parser.get_parsed_content("network_def").load_state_dict(tensors, strict=True)


def test_evaluation_needs_data_and_model_alone_and_gives_the_same_scores(trained, tiny_cohort, tmp_path):
    (tmp_path / "ckpt").mkdir()
    shutil.copy(trained["folder"] / "ckpt" / "model.pt", tmp_path / "ckpt")
    _, said = WEAK.run(["train.json", "evaluate.json"], tmp_path, tiny_cohort)
    assert files_below(tmp_path) == {"ckpt/model.pt", "output/metrics.csv", "output/metrics.json"}
    assert "overall" in said and "metrics.csv" in said
    wanted = scores(trained["folder"] / "output" / "metrics.json")
    for row, other in zip(scores(tmp_path / "output" / "metrics.json"), wanted, strict=True):
        assert row == pytest.approx({key: other[key] for key in row}, nan_ok=True), row
        assert "centre dice" in row and "prior dice" not in row


@pytest.mark.parametrize("roi_size", [None, [16, 16, 16]])
def test_inference_segments_a_folder_with_the_trained_model(trained, tiny_cohort, tmp_path, roi_size):
    settings = {"ckpt_path": str(trained["folder"] / "ckpt" / "model.pt"), "output_dir": str(tmp_path)}
    settings |= {key: WEAK.tiny[key] for key in ("channels", "strides", "device")} | {"roi_size": roi_size}
    inference = BundleRun(WEAK.name, {}, {})
    flow, said = inference.run(["inference.json"], tmp_path / "none", tiny_cohort / "imagesTs", "inference", **settings)
    assert not flow.check_properties()
    assert_segmented(tiny_cohort / "imagesTs", tmp_path, range(6), said)


def test_boxes_need_no_foundation_model_and_a_rejected_case_is_not_learnt_from(tiny_cohort, tmp_path):
    folder = subset_cohort(tiny_cohort, tmp_path / "cohort", training=3, test=1)
    content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    (folder / "dataset.json").write_text(json.dumps({**content, "reject": ["sample_001"]}))
    options = {"sharing": "union", "walk_passes": 2, "walk_between": 0, "appearance_rate": 0.02}
    flow, said = WEAK.run(["train.json"], tmp_path, folder, backbone="mobile_sam", roi_size=[16, 16, 8], **options)
    results = json.loads((tmp_path / "output" / "run.json").read_text(encoding="utf-8"))["results"]
    assert results["prior"] == "box" and results["backbone"] is None and results["rejected"] == ["sample_001"]
    assert "one typical box for each label" in results["supervision"] and "2 to learn from, 1 rejected" in said
    trainers = flow.parser.get_parsed_content("plan").trainers
    subsets = {name: trainer.data_loader.sampler.subset for name, trainer in trainers.items()}
    assert subsets == {"classify": None, "appearance": [0, 2], "train": [0, 2]}
    labeller, scheduler = flow.parser.get_parsed_content("labeller"), trainers["appearance"].lr_scheduler
    assert labeller.groups == [0] * 5 and labeller.walk_passes == 2
    assert all(offset[labeller.cohort.slice_axis] == 0 for offset in labeller.walk.offsets)
    assert scheduler.base_lrs == [0.02] and scheduler.last_epoch == 6
    assert not list((tmp_path / "ckpt").glob("classify*"))
    review = (tmp_path / "output" / "pseudo_labels" / "report.html").read_text(encoding="utf-8")
    assert re.search(r"<h3>sample_001 <span[^>]*>rejected<", review) and review.count(">rejected<") == 1
    page = (tmp_path / "output" / "report.html").read_text(encoding="utf-8")
    assert "No SAM was used" in page


def test_published_form_tunes_the_backbone_and_segments_slice_by_slice(tiny_cohort, tmp_path, monkeypatch):
    backbone = use_fake_backbone(monkeypatch, tmp_path / "weights")
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    folder = subset_cohort(tiny_cohort, tmp_path / "cohort", training=2, test=1)
    options = {"backbone": "samus", "subclasses": 2, "batch_size": 1}
    options |= {"coarse::body::network": {**UNET_2D, "channels": [4, 8], "strides": [2]}}
    small = BundleRun(WEAK.name, {k: WEAK.tiny[k] for k in ("max_voxels", "epochs", "epoch_length", "device")}, {})
    paper = {**options, "classify_epochs": 1, "backbone_image_size": 64}
    flow, _ = small.run(["train.json", "paper.json"], tmp_path, folder, **paper)
    now = backbone.state_dict()
    assert not torch.equal(now["stem.weight"], before["stem.weight"])  # tuned
    assert torch.equal(now["neck.0.weight"], before["neck.0.weight"])  # frozen
    assert "slice_axis" in "".join(weights(tmp_path / "ckpt" / "model.pt")) and not list(
        (tmp_path / "cache").glob("sam/*")
    )
    results = json.loads((tmp_path / "output" / "run.json").read_text(encoding="utf-8"))["results"]
    assert results["prior"] == "cam" and "box" not in results["supervision"]
    assert "appearance" not in json.loads((tmp_path / "output" / "run.json").read_text())["stages"]
    banks = {path.parent.name for path in (tmp_path / "cache" / "labels").rglob("*.safetensors")}
    assert banks == {"prior", "round_1", "labels"}  # no location is learnt, and the map is walked once
    assert flow.parser.get_parsed_content("labeller").walk_passes == 1
    assert all(type(trainer.lr_scheduler) is OneCycleLR for trainer in published(flow))
    served = {"ckpt_path": str(tmp_path / "ckpt" / "model.pt"), "output_dir": str(tmp_path / "served")}
    served |= {"coarse::body::network": options["coarse::body::network"], "device": "cpu"}
    configs = ["inference.json", "paper_inference.json"]
    BundleRun(WEAK.name, {}, {}).run(configs, tmp_path / "none", folder / "imagesTs", "inference", **served)
    assert len(list((tmp_path / "served").glob("*/*_seg.nii.gz"))) == 1


def published(flow: ConfigWorkflow) -> list:
    """Return the trainers that the paper has, too."""
    return [flow.parser.get_parsed_content("plan").trainers[name] for name in ("classify", "train")]


UNET_2D = {"_target_": "UNet", "spatial_dims": 2, "in_channels": 1, "out_channels": 6, "num_res_units": 0}


# --- as a command


@pytest.mark.slow
def test_two_processes_train_one_model(tiny_cohort, tmp_path):
    bundle = WEAK.copy(tmp_path / "bundle")
    configs = ["configs/train.json", "configs/multi_gpu_train.json"]
    process = command(configs, *WEAK.flags(dataset_dir=tiny_cohort), cwd=bundle, processes=2)
    said, complaints = process.communicate(timeout=600)
    assert process.returncode == 0, complaints + said
    for line in ("epoch 2/2", "mean of 2 cases", "model:  ", "report: ", "pseudo labels: "):
        wanted = 2 if line == "epoch 2/2" else 1  # appearance and train
        assert sum(line in printed for printed in said.splitlines()) == wanted, (line, said)
    assert len(list((bundle / "eval" / "pseudo_labels").glob("*.nii.gz"))) == 5
    manifest = json.loads((bundle / "eval" / "run.json").read_text(encoding="utf-8"))
    assert manifest["config"]["run"]["world_size"] == 2 and manifest["results"]["learnt_from"] == 5


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrong",
    [
        {"prior": ("cam", "backbone is null, but")},
        {
            "prior": ("atlas", "prior is 'atlas'; wanted one of"),
            "walk": ("dots", "walk is 'dots'; wanted one of"),
            "threshold": ("2", "threshold is 2"),
            "sharing": ("organ", "sharing is 'organ'; wanted one of"),
            "walk_passes": (0, "walk_passes is 0"),
            "subclasses": (0, "subclasses is 0"),
        },
    ],
    ids=["one with another", "by themselves, all at once"],
)
def test_wrong_settings_end_before_any_work(tiny_cohort, tmp_path, wrong):
    bundle = WEAK.copy(tmp_path / "bundle")
    settings = {key: word for key, (word, _) in wrong.items()}
    lines = errors_of(command(["configs/train.json"], *WEAK.flags(dataset_dir=tiny_cohort, **settings), cwd=bundle))
    for _, text in wrong.values():
        assert any(text in line for line in lines), (text, lines)
    assert not list((bundle / "cache").rglob("*.safetensors"))


def test_cases_without_slice_labels_are_all_named(tiny_cohort, tmp_path):
    folder = subset_cohort(tiny_cohort, tmp_path / "cohort", training=3, test=1)
    content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    for case in content["training"][1:]:
        case.pop("slice_labels")
    (folder / "dataset.json").write_text(json.dumps(content))
    bundle = WEAK.copy(tmp_path / "bundle")
    lines = errors_of(command(["configs/train.json"], *WEAK.flags(dataset_dir=folder), cwd=bundle))
    assert (
        len(lines) == 3 and "sample_001" in lines[0] and "sample_002" in lines[1] and "tools.slice_labels" in lines[2]
    )
