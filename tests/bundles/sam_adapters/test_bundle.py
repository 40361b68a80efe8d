"""Whole runs of the SAM adapters: what they leave, what they open, and each preset."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from monai.bundle import ConfigParser

from support.bundle.path import import_bundle
from support.bundle.predictions import assert_segmented
from support.bundle.run import ADAPTERS, command, errors_of, files_below, files_opened, scores, weights
from support.networks.tiny_sam import tiny_sam, use_tiny_sam

PRESETS = sorted(
    path.name for path in ADAPTERS.configs.glob("*.json")
    if path.stem not in ("train", "inference", "evaluate", "multi_gpu_train", "metadata")
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tiny_cohort, tmp_path_factory) -> dict:
    """One run of train.json with a control: its folder, what it printed, and every file that it opened."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch, files_opened() as opened:
        use_tiny_sam(patch, folder / "weights", bundle=ADAPTERS.name)
        flow, said = ADAPTERS.run(["train.json"], folder, tiny_cohort, plain_control=True)
    return {"folder": folder, "said": said, "opened": opened, "flow": flow}


def test_training_leaves_model_scores_and_report(trained):
    folder, said = trained["folder"], trained["said"]
    found = {name for name in files_below(folder) if not name.startswith(("cache/", "weights/"))}
    results = {f"output/{name}" for name in ("report.html", "run.json", "metrics.csv", "metrics.json")}
    results |= {f"ckpt/{name}.checkpoint.pt" for name in ("adapt", "train", "control")}
    assert found == results | {"ckpt/model.pt", "ckpt/control.pt", "ckpt/review.json", "output/events.out.tfevents"}
    assert "mean of 2 cases never seen" in said
    told = json.loads((folder / "output" / "run.json").read_text(encoding="utf-8"))
    results = told["results"]
    assert (results["labeled"], results["unlabeled"], results["trained_parameters"] > 0) == (2, 3, True)
    assert set(results["dice"]["overall"]) == {"method", "itself", "plain"}
    assert results["parts"]["decoder"] == "full" and results["parts"]["depth"] == "slab"
    assert told["config"]["adapt"]["objective"]["trained"] == results["trained_parameters"]
    rows = scores(folder / "output" / "metrics.json")
    assert {row["case"] for row in rows} == {"sample_006", "sample_007"} and "itself dice" in rows[0]


def test_monai_finds_all_properties_of_a_training(trained):
    assert not trained["flow"].check_properties()


def test_no_label_is_opened_but_those_learnt_from_and_those_to_score(trained, tiny_cohort):
    dataset = json.loads((tiny_cohort / "dataset.json").read_text(encoding="utf-8"))
    real = {
        (group, key): {os.path.realpath(tiny_cohort / case[key]) for case in dataset[group]}
        for group in ("training", "test")
        for key in ("image", "label")
    }
    seen = set(trained["opened"])
    assert real["training", "image"] <= seen and real["test", "label"] <= seen  # the spy does see what is opened
    labeled = {case["label"] for case in trained["flow"].parser.get_parsed_content("cohort").labeled}
    assert seen & real["training", "label"] == {os.path.realpath(path) for path in labeled} and len(labeled) == 2


def test_the_model_holds_no_sam_and_fits_inference_json(trained):
    path = trained["folder"] / "ckpt" / "model.pt"
    tensors = weights(path)
    assert not any("sam" in name or "decoder" in name for name in tensors)
    parser = ConfigParser()
    parser.read_config(ADAPTERS.configs / "inference.json")
    parser.update({"bundle_root": str(ADAPTERS.folder), "ckpt_path": str(path)})
    parser.update({key: ADAPTERS.tiny[key] for key in ("channels", "strides")})
    import_bundle(ADAPTERS.name)
    parser.get_parsed_content("network_def").load_state_dict(tensors, strict=True)


def test_evaluation_needs_data_and_model_alone_and_gives_the_same_scores(trained, tiny_cohort, tmp_path):
    (tmp_path / "ckpt").mkdir()
    shutil.copy(trained["folder"] / "ckpt" / "model.pt", tmp_path / "ckpt")
    with pytest.MonkeyPatch.context() as patch:
        use_tiny_sam(patch, tmp_path / "weights", bundle=ADAPTERS.name)
        ADAPTERS.run(["train.json", "evaluate.json"], tmp_path, tiny_cohort)
    wanted = scores(trained["folder"] / "output" / "metrics.json")
    for row, other in zip(scores(tmp_path / "output" / "metrics.json"), wanted, strict=True):
        assert row["dice"] == pytest.approx(other["dice"], nan_ok=True) and "itself dice" not in row


def test_inference_segments_a_folder_without_any_sam(trained, tiny_cohort, tmp_path):
    settings = {"ckpt_path": str(trained["folder"] / "ckpt" / "model.pt"), "output_dir": str(tmp_path)}
    settings |= {"bundle_root": str(ADAPTERS.folder), "channels": [4, 8], "strides": [2], "device": "cpu"}
    scans = tiny_cohort / "imagesTs"
    flow, said = ADAPTERS.run(["inference.json"], tmp_path / "none", scans, kind="inference", **settings)
    assert not flow.check_properties()
    assert_segmented(tiny_cohort / "imagesTs", tmp_path, range(6), said)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_trains_what_its_paper_adds(name, tiny_cohort, tmp_path, monkeypatch):
    preset = json.loads((ADAPTERS.configs / name).read_text(encoding="utf-8"))
    attention = preset.get("encoder_adapter") is not None
    use_tiny_sam(monkeypatch, tmp_path / "weights", attention=attention, bundle=ADAPTERS.name)
    own = {key: preset[key] for key in ADAPTERS.tiny if key in preset} | ({"adapter_rank": 4} if attention else {})
    flow, _ = ADAPTERS.run(["train.json", name], tmp_path, tiny_cohort, epochs=1, **own)
    network = flow.parser.get_parsed_content("adapted")
    for key in ("decoder", "prompts", "depth", "encoder_adapter"):
        wanted = preset.get(key, flow.parser.get(key))
        assert network.names[key] == wanted, key
    assert (network.branch is not None) == preset.get("side_branch", False)
    assert network.names.get("decoders", 1) == preset.get("decoders", 1)
    assert (tmp_path / "ckpt" / "model.pt").is_file()
    assert "not run here" in preset["published"] or "not built here" in preset["published"]


def test_two_decoders_learn_from_unlabelled_volumes_whose_labels_stay_closed(tiny_cohort, tmp_path, monkeypatch):
    built = use_tiny_sam(monkeypatch, tmp_path / "weights", bundle=ADAPTERS.name)
    with files_opened() as opened:
        flow, said = ADAPTERS.run(["train.json", "cpc_sam.json"], tmp_path, tiny_cohort, epochs=1, cross_from=0.5)
    fresh = tiny_sam(64).state_dict()
    assert all(value.equal(fresh[name]) for name, value in built[0].state_dict().items())
    assert "features of all volumes  7 of 7" in said  # two with a changed copy of each, and three without a label
    labels = {path for path in opened if "labelsTr" in path}
    wanted = {case["label"] for case in flow.parser.get_parsed_content("cohort").labeled}
    assert labels == {os.path.realpath(path) for path in wanted}
    curve = flow.parser.get_parsed_content("plan").adapt.progress.history["cross"]
    assert [value > 0 for _, value in curve] == [False, True]  # after half of the steps
    told = json.loads((tmp_path / "output" / "run.json").read_text(encoding="utf-8"))["config"]
    assert told["adapt"]["objective"]["cross_prompting"]["start"] == 0.5 and told["slabs"]["unlabeled"] is True
    assert flow.parser.get_parsed_content("features").disk.misses == 7 + 2  # the labeller encoded none again


@pytest.mark.parametrize("more", [[], ["cpc_sam.json"]], ids=["one", "cpc_sam"])
def test_without_unlabelled_volumes_the_light_network_learns_from_labels_alone(
    more, tiny_cohort, tmp_path, monkeypatch
):
    use_tiny_sam(monkeypatch, tmp_path / "weights", bundle=ADAPTERS.name)
    ADAPTERS.run(["train.json", *more], tmp_path, tiny_cohort, num_labeled=None, epochs=1)
    results = json.loads((tmp_path / "output" / "run.json").read_text(encoding="utf-8"))["results"]
    assert (results["labeled"], results["unlabeled"]) == (5, 0)
    page = (tmp_path / "output" / "report.html").read_text(encoding="utf-8")
    assert "learnt from the true labels alone" in page


# --- as a command


@pytest.mark.slow
@pytest.mark.parametrize(
    "parts",
    [{"prompts": "self", "decoder": "sam"}, {"decoder": "tokens", "decoders": 2, "cross_prompting": True}],
    ids=["self", "cross"],
)
def test_two_processes_train_one_model(parts, tiny_cohort, tmp_path):
    bundle = ADAPTERS.copy(tmp_path / "bundle")
    configs = ["configs/train.json", "configs/multi_gpu_train.json"]
    flags = ADAPTERS.flags(dataset_dir=tiny_cohort, epoch_length=4, **parts)
    process = command(configs, *flags, cwd=bundle, processes=2)
    said, complaints = process.communicate(timeout=600)
    if "found no weights" in complaints:
        pytest.skip("needs the weights of mobile_sam")
    assert process.returncode == 0, complaints + said
    for line, wanted in (("epoch 2/2", 2), ("mean of 2 cases", 1), ("pseudo labels  2 of 2", 1), ("model:  ", 1)):
        assert sum(line in printed for printed in said.splitlines()) == wanted, (line, said)
    config = json.loads((bundle / "eval" / "run.json").read_text(encoding="utf-8"))["config"]
    assert config["run"]["world_size"] == 2 and config["train"]["epoch_length"] == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"decoder": "unet"}, "--decoder is 'unet'; wanted one of tokens, full, hierarchical, sam, frozen"),
        ({"sam": "sam2"}, "--sam is 'sam2'; wanted one of"),
        ({"prompts": "dense"}, "prompts is 'dense'; wanted null where decoder is full"),
        ({"decoders": 3}, "--decoders is 3; wanted a whole number from 1 to 2"),
        ({"cross_prompting": True}, "decoders is 1; wanted 2 where cross_prompting is true"),
        ({"cross_from": 2}, "--cross_from is 2; wanted a number from 0 to 1"),
        ({"slices": "oblique"}, "--slices is 'oblique'; wanted one of sagittal, coronal, axial, auto"),
        ({"num_labeled": 9}, "num_labeled is 9"),
        ({"sam": "efficient_sam_ti", "decoder": "tokens"}, "found no weights"),
    ],
)
def test_nonsense_ends_in_one_line_before_anything_is_written(settings, text, tiny_cohort, tmp_path):
    options = ["--bundle_root", str(ADAPTERS.folder), *ADAPTERS.flags(dataset_dir=tiny_cohort, **settings)]
    options += [f"--{name}_dir={tmp_path / name}" for name in ("output", "ckpt", "cache")]
    lines = errors_of(command([ADAPTERS.configs / "train.json"], *options, cwd=tmp_path))
    assert len(lines) == 1 and text in lines[0], lines
    assert not files_below(tmp_path)
