"""Whole runs of ADA-SAM: what they leave, what they open, and how they end when told nonsense."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from monai.bundle import ConfigParser
from safetensors import safe_open

from support.bundle.path import import_bundle
from support.bundle.predictions import assert_segmented
from support.bundle.run import (
    ADA,
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
from support.networks.tiny_sam import use_tiny_sam

STAGES = ("classify", "adapt", "slice_unet", "train")
RESULTS = {"output/report.html", "output/run.json", "output/metrics.csv", "output/metrics.json"}
RESULTS |= {"output/events.out.tfevents", "output/pseudo_labels/report.html"}
RESULTS |= {"ckpt/model.pt", "ckpt/control.pt", "ckpt/ada_sam.safetensors", "ckpt/ada_sam.pt", "ckpt/review.json"}
CASES = [f"sample_{number:03d}" for number in range(5)]
PATCH_MAP = {"dense_prompt": "patch_map", "unet_share": 0}
SERVED = {key: ADA.tiny[key] for key in ("channels", "strides", "device")}


@pytest.fixture(scope="module")
def trained(tiny_cohort, tmp_path_factory) -> dict:
    """One run of train.json with every stage: its folder, what it printed, every file that it opened."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch, files_opened() as opened:
        built = use_tiny_sam(patch, folder / "weights")
        flow, said = ADA.run(["train.json"], folder, tiny_cohort, plain_control=True)
    return {"folder": folder, "said": said, "opened": opened, "flow": flow, "built": built}


def manifest(folder: Path) -> dict:
    return json.loads((folder / "output" / "run.json").read_text(encoding="utf-8"))


def test_training_leaves_models_scores_and_report(trained):
    folder, said = trained["folder"], trained["said"]
    found = {name for name in files_below(folder) if not name.startswith(("cache/", "weights/"))}
    checkpoints = {f"ckpt/{stage}.checkpoint.pt" for stage in (*STAGES, "control")}
    volumes = {f"output/pseudo_labels/{case}.nii.gz" for case in CASES}
    assert {name for name in found if not name.endswith(".previous")} == RESULTS | checkpoints | volumes
    assert "mean of 2 cases never seen" in " ".join(said.split()) and f"model:  {folder}/ckpt/model.pt" in said
    losses = logged_losses(folder / "output")
    assert losses and all(loss > 0 for loss in losses)
    rows = scores(folder / "output" / "metrics.json")
    assert {row["case"] for row in rows} == {"sample_006", "sample_007"}
    for column in ("dice", "itself dice", "slices dice", "unet dice", "plain dice"):
        assert all(column in row for row in rows), column
    results = manifest(folder)["results"]
    assert results["base"]["sam"] == "mobile_sam" and results["deployed"] == "segmenter"
    assert sum(map(len, results["label_slices"].values())) == 3 == len(results["label_slices"])  # a patient each
    assert all(set(row) == {"method", "itself", "slices", "unet", "plain"} for row in results["dice"].values())
    controls = {"2D UNet of the same masks", "plain UNet of the same labels"}
    assert {found["control"] for found in results["verdicts"]} == controls
    stages = {"load volumes", "SAM features", "views", *STAGES, "control", "pseudo labels", "review", "evaluate"}
    assert stages <= set(manifest(folder)["stages"])
    assert len(trained["built"]) == 1  # features and network share the SAM
    config = manifest(folder)["config"]
    assert config["cohort"]["num_label_slices"] == 3 and config["images"]["percentiles"] == [1, 99]
    assert config["ada"]["hidden"] == 8 and config["ada"]["feedback"] is None and config["inferer"]["overlap"] == 0.5
    assert config["labeller"]["mask_weight"] == 5 and 0 < config["second"]["share"] < 1
    assert list(config)[-4:] == list(STAGES) and config["adapt"]["max_epochs"] == 2


def test_building_the_trainer_opens_no_label_and_does_nothing(tiny_cohort, tmp_path, monkeypatch):
    """As a client of a federation does, which runs it later."""
    use_tiny_sam(monkeypatch, tmp_path / "weights")
    parser = ConfigParser()
    parser.read_config(ADA.configs / "train.json")
    folders = {f"{name}_dir": str(tmp_path / name) for name in ("output", "ckpt", "cache")}
    parser.update({"bundle_root": str(ADA.folder), "dataset_dir": str(tiny_cohort), **folders, **ADA.tiny})
    import_bundle("ada_sam")
    with files_opened() as opened:
        trainer = parser.get_parsed_content("train::trainer")
    labels = {os.path.realpath(path) for path in tiny_cohort.glob("labels*/*")}
    assert len(labels) >= 7 and not labels & set(opened)
    assert list(trainer.plan.trainers) == list(STAGES) and len(parser.get_parsed_content("images")) == 0
    assert not any(name.startswith(("ckpt/", "cache/")) for name in files_below(tmp_path))


def test_report_says_the_supervision_and_which_slices_had_masks(trained):
    page = (trained["folder"] / "output" / "report.html").read_text(encoding="utf-8")
    for words in ("masks on 3 slices of 3 cases", "presence bits on all", "Which slices had masks", "own prompts"):
        assert words in page, words
    for words in ("ADA-SAM itself", "ADA-SAM slice by slice", "which it learnt from", "chosen without"):
        assert words in page, words
    review = (trained["folder"] / "output" / "pseudo_labels" / "report.html").read_text(encoding="utf-8")
    assert all(case in review for case in CASES) and "slices with masks" in review
    assert f"{len(CASES)} of {len(CASES)} masks are learnt from" in review


def test_masks_of_cases_without_labelled_slices_are_never_opened(trained, tiny_cohort):
    assert_only_drawn_opened(trained, tiny_cohort)


def assert_only_drawn_opened(trained, cohort):
    dataset = json.loads((cohort / "dataset.json").read_text(encoding="utf-8"))
    paths = {
        (group, key): {os.path.realpath(cohort / case[key]) for case in dataset[group] if key in case}
        for group in ("training", "validation", "test")
        for key in ("image", "label", "slice_labels")
    }
    seen = set(trained["opened"])
    assert paths["training", "image"] | paths["training", "slice_labels"] | paths["test", "label"] <= seen
    drawn = manifest(trained["folder"])["results"]["label_slices"]
    wanted = {os.path.realpath(cohort / case["label"]) for case in dataset["training"] if _id(case) in drawn}
    assert len(wanted) == 3 and seen & paths["training", "label"] == wanted
    assert not seen & paths["validation", "label"]


def _id(case: dict) -> str:
    return Path(case["image"]).name.removesuffix(".nii.gz")


def test_masks_of_other_slices_change_nothing(trained, tiny_cohort, tmp_path, monkeypatch):
    """The same run on label files in which all slices but the drawn ones are another label."""
    use_tiny_sam(monkeypatch, tmp_path / "weights")
    ADA.run(["train.json"], tmp_path, with_other_masks(trained, tiny_cohort, tmp_path / "cohort"))
    for name in ("model.pt", "ada_sam.pt"):
        assert_same_weights(tmp_path / "ckpt" / name, trained["folder"] / "ckpt" / name)


def with_other_masks(trained, cohort, folder):
    """Return a copy of a cohort in which another label fills all slices that a run has not drawn."""
    shutil.copytree(cohort, folder)
    dataset = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    for case in dataset["training"]:
        axis = json.loads((folder / case["slice_labels"]).read_text(encoding="utf-8"))["axis"]
        drawn = manifest(trained["folder"])["results"]["label_slices"].get(_id(case), [])
        file = nibabel.load(folder / case["label"])
        array = np.asarray(file.dataobj).copy()
        others = [index for index in range(array.shape[axis]) if index not in drawn]
        np.moveaxis(array, axis, 0)[others] = 1
        nibabel.save(nibabel.Nifti1Image(array, file.affine), folder / case["label"])
    return folder


@pytest.fixture(scope="module")
def patched(tiny_cohort, tmp_path_factory) -> dict:
    """One run with a patch map: its folder, and every file that it opened."""
    folder = tmp_path_factory.mktemp("patched")
    with pytest.MonkeyPatch.context() as patch, files_opened() as opened:
        use_tiny_sam(patch, folder / "weights")
        ADA.run(["train.json"], folder, tiny_cohort, **PATCH_MAP)
    return {"folder": folder, "opened": opened}


def test_a_patch_map_learns_from_drawn_slices_alone(patched, trained, tiny_cohort, tmp_path, monkeypatch):
    assert_only_drawn_opened(patched, tiny_cohort)
    use_tiny_sam(monkeypatch, tmp_path / "weights")
    ADA.run(["train.json"], tmp_path, with_other_masks(patched, tiny_cohort, tmp_path / "cohort"), **PATCH_MAP)
    for name in ("model.pt", "ada_sam.pt"):
        assert_same_weights(tmp_path / "ckpt" / name, patched["folder"] / "ckpt" / name)
    assert "dense_prompt" not in manifest(trained["folder"])["config"]["ada"]
    assert manifest(patched["folder"])["config"]["ada"]["dense_prompt"] == "patch_map"


def test_a_patch_map_is_served_with_what_it_belongs_to(patched, tiny_cohort, tmp_path, monkeypatch):
    use_tiny_sam(monkeypatch, tmp_path / "weights")
    settings = {"ckpt_path": str(patched["folder"] / "ckpt" / "ada_sam.pt"), "device": "cpu", "hidden": 8}
    settings |= {"sam_image_size": 64, "output_dir": str(tmp_path / "out")}
    configs, inference = ["inference.json", "sam_inference.json"], BundleRun(ADA.name, {}, {})
    scans = tiny_cohort / "imagesTs"
    inference.run(configs, tmp_path / "none", scans, "inference", **settings, dense_prompt="patch_map")
    assert len(list((tmp_path / "out").glob("*/*_seg.nii.gz"))) == len(list(scans.iterdir()))
    with pytest.raises(RuntimeError) as error:
        inference.run(configs, tmp_path / "none", scans, "inference", **settings)
    assert "unexpected tensors: network.patch_map" in str(error.value.__cause__)


def test_monai_finds_all_properties_of_a_training(trained):
    assert not trained["flow"].check_properties()


def test_models_are_flat_and_fit_the_networks_that_serve_them(trained, monkeypatch, tmp_path):
    use_tiny_sam(monkeypatch, tmp_path / "weights")
    ckpt = trained["folder"] / "ckpt"
    segmenter = weights(ckpt / "model.pt")
    assert not any(word in name for name in segmenter for word in ("sam", "head", "prompt"))
    for configs, name in (["inference.json"], "model.pt"), (["inference.json", "sam_inference.json"], "ada_sam.pt"):
        parser = ConfigParser()
        parser.read_config([str(ADA.configs / config) for config in configs])
        parser.update({"bundle_root": str(ADA.folder), "ckpt_path": str(ckpt / name), "hidden": 8, **SERVED})
        import_bundle("ada_sam")
        parser.get_parsed_content("network_def").load_state_dict(weights(ckpt / name), strict=True)


def test_sites_receive_what_was_trained_and_the_base_it_belongs_to(trained):
    network = trained["flow"].parser.get_parsed_content("ada")
    with safe_open(trained["folder"] / "ckpt" / "ada_sam.safetensors", framework="pt") as file:
        held = set(file.keys())
        said = " ".join((file.metadata() or {}).values())
    assert held == {*network.trainable_parameters(), "cam_low", "cam_high", "extents"}
    assert manifest(trained["folder"])["results"]["base"]["sha256"] in said


def test_evaluation_needs_data_and_model_alone_and_gives_the_same_scores(trained, tiny_cohort, tmp_path):
    (tmp_path / "ckpt").mkdir()
    shutil.copy(trained["folder"] / "ckpt" / "model.pt", tmp_path / "ckpt")
    ADA.run(["train.json", "evaluate.json"], tmp_path, tiny_cohort)
    assert files_below(tmp_path) == {"ckpt/model.pt", "output/metrics.csv", "output/metrics.json"}
    found, wanted = (scores(path / "output" / "metrics.json") for path in (tmp_path, trained["folder"]))
    for row, other in zip(found, wanted, strict=True):
        assert row == pytest.approx({key: other[key] for key in row}, nan_ok=True), row
        assert "itself dice" not in row


def test_ada_sam_itself_is_scored_from_its_merged_file(trained, tiny_cohort, tmp_path, monkeypatch):
    use_tiny_sam(monkeypatch, tmp_path / "weights")
    configs = ["train.json", "evaluate.json", "sam_inference.json"]
    path = str(trained["folder"] / "ckpt" / "ada_sam.pt")
    ADA.run(configs, tmp_path, tiny_cohort, ckpt_path=path)
    found, wanted = (scores(folder / "output" / "metrics.json") for folder in (tmp_path, trained["folder"]))
    assert [row["dice"] for row in found] == pytest.approx(
        [row["itself dice"] for row in wanted], abs=0.02, nan_ok=True
    )


@pytest.mark.parametrize("itself", [False, True])
def test_inference_segments_a_folder_with_the_trained_model(trained, tiny_cohort, tmp_path, monkeypatch, itself):
    use_tiny_sam(monkeypatch, tmp_path / "weights")
    configs = ["inference.json", "sam_inference.json"] if itself else ["inference.json"]
    name = "ada_sam.pt" if itself else "model.pt"
    settings = {"ckpt_path": str(trained["folder"] / "ckpt" / name), "output_dir": str(tmp_path / "out"), **SERVED}
    settings |= {"hidden": 8, "sam_image_size": 64} if itself else {}
    inference = BundleRun(ADA.name, {}, {})
    flow, said = inference.run(configs, tmp_path / "none", tiny_cohort / "imagesTs", "inference", **settings)
    assert not flow.check_properties()
    assert_segmented(tiny_cohort / "imagesTs", tmp_path / "out", range(6), said)


def test_papers_form_adapts_the_encoder_and_is_deployed_itself(tiny_cohort, tmp_path, monkeypatch):
    (sam,) = [use_tiny_sam(monkeypatch, tmp_path / "weights", attention=True)]
    folder = subset_cohort(tiny_cohort, tmp_path / "cohort", training=2, test=1)
    options = {"adapt_epochs": 1, "adapt_length": 2, "classify_epochs": 1, "sam_image_size": 64, "hidden": 8}
    options |= {"num_label_slices": 4, "max_voxels": 4096, "labeled_batch": 2, "unlabeled_batch": 2, "device": "cpu"}
    paper = BundleRun(ADA.name, {}, {})
    flow, _ = paper.run(["train.json", "paper.json"], tmp_path, folder, **options)
    assert files_below(tmp_path / "ckpt") >= {"ada_sam.pt", "ada_sam.safetensors"}
    assert not (tmp_path / "ckpt" / "model.pt").exists() and not list((tmp_path / "cache").rglob("*.safetensors"))
    merged = weights(tmp_path / "ckpt" / "ada_sam.pt")
    assert not any(".up." in name or ".down." in name for name in merged) and any("feedback" in name for name in merged)
    network = flow.parser.get_parsed_content("ada")
    ups = [parameter for name, parameter in network.named_parameters() if ".up." in name]
    assert ups and any(parameter.abs().max() > 0 for parameter in ups)  # the adapters have learnt
    results = manifest(tmp_path)["results"]
    assert results["deployed"] == "ADA-SAM itself" and set(results["dice"]["overall"]) == {"method", "slices"}
    served = {"ckpt_path": str(tmp_path / "ckpt" / "ada_sam.pt"), "output_dir": str(tmp_path / "served")}
    served |= {
        "head": "mlp",
        "hidden": 8,
        "cam_range": "running",
        "mask_prompt": False,
        "feedback": True,
        "passes": 1,
        "propagate": False,
    }
    served |= {"sam_image_size": 64, "device": "cpu"}
    paper.run(["inference.json", "sam_inference.json"], tmp_path / "none", folder / "imagesTs", "inference", **served)
    assert len(list((tmp_path / "served").glob("*/*_seg.nii.gz"))) == 1 and len(sam) == 2


# --- as a command


@pytest.mark.slow
@pytest.mark.parametrize("dense_prompt", ["mask", "patch_map"])
def test_two_processes_train_one_model(dense_prompt, tiny_cohort, tmp_path):
    bundle = ADA.copy(tmp_path / "bundle")
    configs = ["configs/train.json", "configs/multi_gpu_train.json"]
    process = command(configs, *ADA.flags(dataset_dir=tiny_cohort, dense_prompt=dense_prompt), cwd=bundle, processes=2)
    said, complaints = process.communicate(timeout=400)
    if "found no weights" in complaints:
        pytest.skip("needs the weights of mobile_sam")
    assert process.returncode == 0, complaints + said
    for line, wanted in (("epoch 2/2", 3), ("mean of 2 cases", 1), ("model:  ", 1), ("ADA-SAM: ", 1)):
        assert sum(line in printed for printed in said.splitlines()) == wanted, (line, said)
    assert len(list((bundle / "eval" / "pseudo_labels").glob("*.nii.gz"))) == 5
    config = json.loads((bundle / "eval" / "run.json").read_text(encoding="utf-8"))["config"]
    assert config["train"]["epoch_length"] == 2 and config["adapt"]["epoch_length"] == 1  # of 3 and 2, by two


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrong",
    [
        {"num_label_slices": ("null", "wanted one of the two")},
        {
            "num_label_slices": (0, "num_label_slices is 0"),
            "sam": ("sam2", "sam is 'sam2'; wanted one of"),
            "head": ("linear", "head is 'linear'; wanted one of"),
            "dense_prompt": ("patches", "dense_prompt is 'patches'; wanted one of mask, patch_map"),
            "feedback": ("never", "feedback is 'never'; wanted one of evidence, gt, or true or false"),
            "passes": (0, "passes is 0"),
            "unet_share": ("half", "unet_share is 'half'"),
            "pseudo_weight": ("sure", "weight is 'sure'"),
            "negative_weight": (-1, "negative_weight is -1"),
        },
    ],
    ids=["by the data", "by themselves, all at once"],
)
def test_wrong_settings_end_before_any_work(tiny_cohort, tmp_path, wrong):
    bundle = ADA.copy(tmp_path / "bundle")
    settings = {key: word for key, (word, _) in wrong.items()}
    lines = errors_of(command(["configs/train.json"], *ADA.flags(dataset_dir=tiny_cohort, **settings), cwd=bundle))
    if "found no weights" in lines[0]:
        pytest.skip("needs the weights of mobile_sam")
    for _, text in wrong.values():
        assert any(text in line for line in lines), (text, lines)
    assert not list((bundle / "cache").rglob("*.safetensors"))
