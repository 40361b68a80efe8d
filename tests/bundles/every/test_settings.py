"""Each setting of each bundle has a kind, and whatever is none is said before anything starts."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from common.errors import find_input_error
from common.launch.kinds import Kind
from common.launch.overrides import is_expression
from common.launch.settings import SHARED
from support.bundle.path import BUNDLES, import_bundle

PROGRAM = "/somewhere/site-packages/monai/bundle/__main__.py"
BUNDLE_NAMES = sorted(path.parents[1].name for path in BUNDLES.glob("*/configs/train.json"))
BEGUN_WITH = ("train.json", "inference.json")
CONFIGS = sorted(p for p in BUNDLES.glob("*/configs/*.json") if p.name != "metadata.json")
COMPONENTS = {"network", "grid", "imports", "initialize", "run", "finalize", "handlers"}
WITH_A_DEFAULT_COMPONENT = {"dataset_dir", "amp"}
PATCHES = "true where dense_prompt is patch_map"
PROMPTS = "one of dense, patch_map, self where decoder is sam"
ALONE = "multiples of 8, the product of strides, and not 8 alone"
BELOW_A_FILE = f"{__file__}/below"
TEXTS = {"ckpt_dir", "ckpt_path", "output_dir", "cache_dir", "datalist", "atlas", "labeled", "published"}


@pytest.fixture(autouse=True)
def hook(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # put back


def read(bundle: str, name: str) -> dict[str, Any]:
    return json.loads((BUNDLES / bundle / "configs" / name).read_text(encoding="utf-8"))


def settings_of(bundle: str, name: str) -> set[str]:
    """Return the keys of a config that a user sets, and that are no components."""
    content, train = read(bundle, name), read(bundle, "train.json")
    built = {key for config in (content, train) for key, value in config.items() if isinstance(value, dict)}
    left_out = COMPONENTS | (built - WITH_A_DEFAULT_COMPONENT)
    return {key for key in content if not key.startswith("_") and "::" not in key} - left_out


def kinds_of(bundle: str) -> dict[str, Kind]:
    return import_bundle(bundle, "settings").SETTINGS


def problems_of(monkeypatch, bundle: str, configs: list[str], *flags: str) -> list[str]:
    files = [str(BUNDLES / bundle / "configs" / name) for name in configs]
    check = import_bundle(bundle, "settings").check
    monkeypatch.setattr(sys, "argv", [PROGRAM, "run", "--config_file", str(files), *flags])
    try:
        check()
    except ValueError as error:  # an InputError of the bundle's own common
        return find_input_error(error).problems
    return []


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parents[1].name}/{path.name}")
def test_no_setting_is_forgotten(path):
    bundle = path.parents[1].name
    assert settings_of(bundle, path.name) - kinds_of(bundle).keys() == set()


@pytest.mark.parametrize("bundle", BUNDLE_NAMES)
def test_no_kind_is_of_a_setting_that_is_not_there(bundle):
    everywhere = set().union(*(read(bundle, path.name) for path in CONFIGS if path.parents[1].name == bundle))
    assert kinds_of(bundle).keys() - SHARED.keys() - everywhere == set()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parents[1].name}/{path.name}")
def test_what_the_configs_say_is_right(path, monkeypatch):
    first = "inference.json" if "inference" in path.name else "train.json"
    assert problems_of(monkeypatch, path.parents[1].name, list(dict.fromkeys([first, path.name]))) == []


@pytest.mark.parametrize("word", ["{}", "[[]]", "", "-1", "two words!", "nan", BELOW_A_FILE])
@pytest.mark.parametrize("name", BEGUN_WITH)
@pytest.mark.parametrize("bundle", BUNDLE_NAMES)
def test_a_bad_word_for_each_setting_is_a_line(bundle, name, word, monkeypatch):
    allowed = {"-1": {"min_gain", "atlas", "labeled"}, "two words!": TEXTS, "nan": TEXTS}.get(word, set())
    allowed = allowed or ({"datalist", "atlas", "labeled", "published"} if word.startswith("/") else set())
    keys = sorted(settings_of(bundle, name) - allowed)
    found = problems_of(monkeypatch, bundle, [name], *(f"--{key}={word}" for key in keys))
    assert {line.partition(" is ")[0].removeprefix("--") for line in found if "; wanted " in line} >= set(keys)
    assert all(len(line.splitlines()) == 1 for line in found)


@pytest.mark.parametrize("bundle", BUNDLE_NAMES)
def test_an_expression_is_left_to_monai(bundle, monkeypatch):
    keys = sorted(settings_of(bundle, "train.json"))
    assert problems_of(monkeypatch, bundle, ["train.json"], *(f"--{key}=$None" for key in keys)) == []
    assert is_expression("$None")


@pytest.mark.parametrize(
    ("flags", "key"),
    [
        (["--strides=[2,2,2,2,2]"], "strides"),
        (["--spatial_size=0,44,30"], "spatial_size"),
        (["--train::trainer::max_epochs=0"], "train::trainer::max_epochs"),
        (["--train::optimizer::lr=-1"], "train::optimizer::lr"),
        (["--train::dataloader=3"], "train::dataloader"),
    ],
)
@pytest.mark.parametrize("bundle", BUNDLE_NAMES)
def test_what_does_not_fit_and_what_is_nested(bundle, flags, key, monkeypatch):
    found = problems_of(monkeypatch, bundle, ["train.json"], *flags)
    assert len(found) == 1 and found[0].removeprefix("--").startswith(f"{key} is ")


@pytest.mark.parametrize(
    ("bundle", "flags", "found", "wanted"),
    [
        ("ada_sam", ["--head=mlp", "--hidden=0"], "hidden is 0", "1 or more where head is mlp"),
        ("ada_sam", ["--dense_prompt=patch_map", "--mask_prompt=false"], "mask_prompt is False", PATCHES),
        ("ada_sam", ["--channels=8,16"], "divisor is 8", "2, for 2 channels, or strides"),
        ("rrl_medsam", ["--strides=2,2"], "strides is [2, 2]", "one fewer than channels, which is [16, 32, 64, 128]"),
        ("rrl_medsam", ["--strides=2,2,2", "--spatial_size=12"], "spatial_size is [12, 12, 12]", ALONE),
        ("sam_adapters", ["--decoder=sam"], "prompts is null", PROMPTS),
        ("sam_adapters", ["--cross_prompting=true"], "decoders is 1", "2 where cross_prompting is true"),
        ("semisam_plus", ["--divisor=4"], "divisor is 4", "8, for 4 channels, or strides"),
        ("weakmedsam", ["--roi_size=8", "--strides=2,2,2"], "roi_size is [8, 8, 8]", ALONE),
    ],
)
def test_what_only_together_is_wrong(bundle, flags, found, wanted, monkeypatch):
    assert problems_of(monkeypatch, bundle, ["train.json"], *flags) == [f"{found}; wanted {wanted}"]


@pytest.mark.parametrize("bundle", BUNDLE_NAMES)
def test_settings_are_looked_at_before_any_component_is_built(bundle):
    for name in ("train.json", "inference.json", "multi_gpu_train.json"):
        assert read(bundle, name)["initialize"][1] == {"_target_": "scripts.settings.check"}
