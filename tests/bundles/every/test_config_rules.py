"""What every config of every bundle keeps to, so that a reader finds the same things in the same places."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ComponentLocator, ConfigParser
from monai.bundle.properties import InferProperties, TrainProperties

from support.bundle.path import BUNDLES, import_bundle
from support.bundle.run import ADA, ADAPTERS, RRL, SEMISAM, WEAK, files_opened
from support.networks.tiny_sam import use_tiny_sam
from tools import configs

CONFIGS = sorted(BUNDLES.glob("*/configs/*.json"))
SETTINGS = [path for path in CONFIGS if path.name != "metadata.json"]
LONGEST = {"train.json": 195, "inference.json": 90, "evaluate.json": 40, "multi_gpu_train.json": 40}
LONGEST |= {"paper.json": 40, "paper_inference.json": 20, "published.json": 40, "published_inference.json": 20}
LONGEST |= {"sam_inference.json": 40, "long.json": 20, "zero_step.json": 90, "knowsam.json": 12}
PRESETS = ("h_sam", "ma_sam", "adapter_3d", "auto_sam", "esp_medsam", "self_prompt_sam", "db_sam", "med_sa", "cpc_sam")
LONGEST |= {f"{name}.json": 12 for name in PRESETS}
RUNS = (RRL, SEMISAM, WEAK, ADA, ADAPTERS)
BUNDLE_NAMES = sorted({path.parents[1].name for path in CONFIGS})
NO_SETTINGS = {"_desc_", "imports", "bundle_root", "ckpt_dir", "ckpt_path", "output_dir", "cache_dir", "device"}
NO_SETTINGS |= {"resume", "seed"}
# what the network and the way of predicting hang on, so that inference has it too; what evaluation goes without
SHARED = {
    "rrl_medsam": {"percentiles", "channels", "strides", "blocks", "norm", "prompt", "output", "tta_views"},
    "semisam_plus": {"percentiles", "method", "channels", "strides", "norm", "dropout", "roi_size", "overlap"},
    "weakmedsam": {"percentiles", "channels", "strides", "norm", "dropout", "roi_size", "overlap"},
    "ada_sam": {"percentiles", "channels", "strides", "norm", "dropout", "roi_size", "overlap"},
    "sam_adapters": {"percentiles", "channels", "strides", "norm", "dropout", "roi_size", "overlap"},
}
TRAINING_ONLY = {"rrl_medsam": "registration", "semisam_plus": "generalist", "weakmedsam": "backbone"}
TRAINING_ONLY |= {"ada_sam": "sam", "sam_adapters": "sam"}


def name_of(path: Path) -> str:
    return f"{path.parents[1].name}/{path.name}"


def refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    assert len(keys) == len(set(keys)), f"twice: {sorted({key for key in keys if keys.count(key) > 1})}"
    return dict(pairs)


def read(bundle: str, name: str) -> dict[str, Any]:
    return json.loads((BUNDLES / bundle / "configs" / name).read_text(encoding="utf-8"))


def walk(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of everything in a config."""
    yield key, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, entry in items:
        yield from walk(entry, f"{key}.{name}" if key else str(name))


@pytest.mark.parametrize("path", CONFIGS, ids=name_of)
def test_no_key_stands_twice(path):
    json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=refuse_duplicates)


@pytest.mark.parametrize("path", SETTINGS, ids=name_of)
def test_config_is_short_and_says_what_it_is_for(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST[path.name]
    assert json.loads(path.read_text(encoding="utf-8"))["_desc_"]


@pytest.mark.parametrize("path", SETTINGS, ids=name_of)
def test_components_come_from_monai_torch_or_the_bundle(path):
    monai = ComponentLocator(excludes=[])
    import_bundle(path.parents[1].name)
    for key, value in walk(json.loads(path.read_text(encoding="utf-8"))):
        if key.split(".")[-1] != "_target_":
            continue
        if "." not in value:
            assert monai.get_component_module_name(value), f"{key}: {value} is no component of MONAI"
        elif value.startswith("scripts."):
            module, _, name = value.removeprefix("scripts.").rpartition(".")
            assert hasattr(import_bundle(path.parents[1].name, module), name), f"{key}: {value}"
        else:
            assert value.startswith("torch."), f"{key}: {value}"


@pytest.mark.parametrize("path", SETTINGS, ids=name_of)
def test_no_list_item_is_addressed_by_its_position(path):
    """`@train#handlers#0` breaks, or means another handler, as soon as somebody adds one."""
    for key, value in walk(json.loads(path.read_text(encoding="utf-8"))):
        assert not re.search(r"(#|::)-?\d+\b", key), key
        if isinstance(value, str):
            assert not re.search(r"@[A-Za-z_]\w*((#|::)\w+)*(#|::)-?\d+\b", value), f"{key}: {value}"
            assert "/work/" not in value and "/home/" not in value and "://" not in value, f"{key}: {value}"


@pytest.mark.parametrize("path", SETTINGS, ids=name_of)
def test_every_reference_leads_somewhere(path):
    files = [path] if path.name in ("train.json", "inference.json") else [path.with_name("train.json"), path]
    parser = ConfigParser()
    parser.read_config([str(file) for file in files])
    for key, value in walk(json.loads(path.read_text(encoding="utf-8"))):
        for reference in re.findall(r"@([A-Za-z_]\w*(?:(?:#|::)\w+)*)", value if isinstance(value, str) else ""):
            assert reference in parser, f"{key}: @{reference}"


@pytest.mark.parametrize("path", [p for p in SETTINGS if p.name not in ("train.json", "inference.json")], ids=name_of)
def test_an_override_brings_no_key_that_train_json_does_not_have(path):
    """Unless the override itself reads it, such a key would be one that nothing reads."""
    train = ConfigParser()
    train.read_config(str(path.with_name("train.json")))
    for key in json.loads(path.read_text(encoding="utf-8")):
        read = key.strip("_")  # a word stands beside its number
        assert key in train or key == "finalize" or f"@{read}" in path.read_text(encoding="utf-8"), key


@pytest.mark.parametrize("bundle", BUNDLE_NAMES)
def test_train_and_inference_agree(bundle):
    train, inference = read(bundle, "train.json"), read(bundle, "inference.json")
    train["dataset_dir"].pop("_disabled_")  # only train.json can get its cases from a client
    train["preprocessing"] = train["scan_preprocessing"]  # a model is given the whole scan, training the grid
    inference["inferer"] = inference["inferer"]["inferer"]  # which looks twice, where training looks once
    for key in ("network_def", "network", "preprocessing", "inferer", "amp", "ckpt_path", "dataset_dir"):
        assert inference[key] == train.get(key) or key == "ckpt_path", key
    numbers = {key for key in train.keys() & inference.keys() if key not in NO_SETTINGS | {"grid", "handlers"}}
    assert SHARED[bundle] <= numbers
    different = {key for key in numbers if train[key] != inference[key]} - {"run", "initialize"}
    different -= {"strides", "_strides_", "blocks"}  # training plans or is told them, model.pt knows them
    train["coarse"].get("body", train["coarse"])["strides"] = "@strides"
    if bundle == "semisam_plus":
        assert inference["coarse"].pop("serves") is True  # what zero_step.json has made is served, never trained on
    assert train["coarse"] == inference["coarse"]
    assert different <= {"coarse"}
    transforms = train["validate"]["postprocessing"]["transforms"]
    after = [item for item in transforms if "SegmentScand" not in str(item) and item != "@validate::compared"]
    answer = [item for item in inference["postprocessing"]["transforms"] if "AddReviewd" not in str(item)]
    for ours, theirs in zip(after, answer[: len(after)], strict=True):
        assert ours["_target_"] == theirs["_target_"]
        assert ours.get("weight") == theirs.get("weight") and ours.get("label_values") == theirs.get("label_values")


def is_number(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(map(is_number, value))
    return isinstance(value, int | float) and not isinstance(value, bool)


@pytest.mark.parametrize("path", [p for p in SETTINGS if p.name in ("train.json", "inference.json")], ids=name_of)
def test_a_word_stands_beside_each_number(path):
    content = json.loads(path.read_text(encoding="utf-8"))
    keys = list(content)
    words = {key for key in keys if key.startswith("_") and key != "_desc_"}
    for word in words:
        name = word[1:-1]
        assert word == f"_{name}_" and keys[keys.index(word) - 1] == name and isinstance(content[word], str), word
    numbers = {key for key, value in content.items() if is_number(value)} - {"channels"}  # whose word is the strides'
    assert {f"_{key}_" for key in numbers} <= words


@pytest.mark.parametrize("path", SETTINGS, ids=name_of)
def test_a_config_is_no_program(path):
    text = path.read_text(encoding="utf-8")
    for word in (".lower()", "lambda", "setattr", " and @", "@rank"):
        assert word not in text, word
    if path.name == "train.json":
        assert max(map(len, text.splitlines())) <= 120


def test_what_bundles_share_is_what_the_templates_say(capsys):
    assert configs.main(["--check"]) == 0, capsys.readouterr().out


@pytest.mark.parametrize(("name", "properties"), [("train.json", TrainProperties), ("inference.json", InferProperties)])
@pytest.mark.parametrize("bundle", BUNDLE_NAMES)
def test_monai_finds_the_properties_it_needs(bundle, name, properties):
    parser = ConfigParser()
    parser.read_config(str(BUNDLES / bundle / "configs" / name))
    for key, property_ in properties.items():
        if property_["required"]:
            assert property_["id"] in parser, key
        reference = property_.get("refer_id")
        if reference in parser:  # else MONAI's tracking puts its own handlers in the place of ours
            assert f"@{property_['id']}" in parser[reference], key


@pytest.mark.parametrize("bundle", BUNDLE_NAMES)
def test_evaluation_asks_for_the_model_first_and_then_for_cases_to_score(bundle):
    evaluate = read(bundle, "evaluate.json")
    assert evaluate["run"][0]["_target_"].endswith("require_model")
    assert evaluate["run"][1] == "$@cohort.require_scored()"
    assert evaluate[TRAINING_ONLY[bundle]] is None


def test_published_protocol_is_served_as_it_was_trained():
    trained, served = read("semisam_plus", "published.json"), read("semisam_plus", "published_inference.json")
    assert set(served) == {"_desc_", "roi_size", "overlap", "coarse::body"}
    assert all(trained[key] == served[key] for key in served if key != "_desc_")
    parser = ConfigParser()
    names = ("inference.json", "published_inference.json")
    parser.read_config([str(BUNDLES / "semisam_plus" / "configs" / name) for name in names])
    import_bundle("semisam_plus")
    parser.update({"ckpt_path": "no such file", "bundle_root": str(BUNDLES / "semisam_plus")})
    assert type(parser.get_parsed_content("network_def").body).__name__ == "VNet"
    assert parser.get_parsed_content("inferer").inferer.roi_size == served["roi_size"]


def test_papers_network_is_served_as_it_was_trained():
    trained, served = read("weakmedsam", "paper.json"), read("weakmedsam", "paper_inference.json")
    assert set(served) == {"_desc_", "coarse::body"}
    assert trained["coarse::body"]["network"] == served["coarse::body"]["network"]
    parser = ConfigParser()
    names = ("inference.json", "paper_inference.json")
    parser.read_config([str(BUNDLES / "weakmedsam" / "configs" / name) for name in names])
    import_bundle("weakmedsam")
    parser.update({"ckpt_path": "no such file", "bundle_root": str(BUNDLES / "weakmedsam")})
    assert type(parser.get_parsed_content("network_def").body).__name__ == "SliceBySlice"


def test_ada_sam_itself_is_served_as_it_was_trained():
    trained, served = read("ada_sam", "train.json"), read("ada_sam", "sam_inference.json")
    numbers = {key for key in served.keys() & trained.keys() if not key.startswith("_")} - NO_SETTINGS
    numbers -= {"ada", "coarse", "sam_model", "slice_axis"}  # built without what only training has
    assert {"sam", "sam_image_size", "context", "head", "hidden", "feedback", "passes"} <= numbers
    assert all(served[key] == trained[key] for key in numbers)
    assert {"lora_rank", "sam_checkpoint", "views"} & set(served) == set()  # folded into the weights, or of training
    trained_only = {"sam", "slice_size", "classes", "lora_rank"}
    assert {k: v for k, v in served["ada"].items() if k not in trained_only} == {
        k: v for k, v in trained["ada"].items() if k not in trained_only
    }
    # its grid, that of SAM's slices, travels with its weights
    assert served["coarse"] == {**trained["ada_volume"], "grid": "@grid"}
    assert served["sam_model"]["pretrained"] is False


@pytest.mark.parametrize("bundle", BUNDLE_NAMES)
def test_whoever_runs_the_last_trainer_gets_what_comes_before_it_done(bundle):
    """MONAI resolves references in their order, and a federated client never runs `run`."""
    train = read(bundle, "train.json")
    references = [key for key, value in train["train"]["trainer"].items() if "@" in str(value)]
    assert references[0] == "plan" and train["train"]["trainer"]["plan"] == "@plan"
    after = ["$@fine_training.run()", "$@plan.run_control(@fine_training)", "$@finish.run()"]
    assert train["finish"]["review"] == "@review_learning"  # which the report shows
    assert train["run"] == ["$@train::trainer.run()", *after]
    assert "train::trainer" not in json.dumps(train["plan"])


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_building_the_last_trainer_opens_no_label_and_trains_nothing(run, tiny_cohort, tmp_path):
    folders = {f"{name}_dir": str(tmp_path / name) for name in ("output", "ckpt", "cache")}
    parser = ConfigParser()
    parser.read_config(str(run.configs / "train.json"))
    settings = {
        **run.tiny,
        **run.without_sam,
        **folders,
        "bundle_root": str(run.folder),
        "dataset_dir": str(tiny_cohort),
    }
    if run is ADA:
        settings |= {"unet_share": 0}
    parser.update(settings)
    import_bundle(run.name)
    with pytest.MonkeyPatch.context() as patch:
        if run in (ADA, ADAPTERS):
            use_tiny_sam(patch, tmp_path / "weights", bundle=run.name)
        with files_opened() as opened:
            trainer = parser.get_parsed_content("train::trainer")
    assert trainer.state.epoch == 0 and not (tmp_path / "ckpt").exists()
    labels = [path for path in opened if Path(path).parent.name.startswith("labels")]
    assert opened and labels == []
