from __future__ import annotations

import json
import sys

import pytest

from common.errors import InputError
from common.launch.kinds import whole
from common.launch.settings import SHARED, check_settings, sizes_fit, unet_fits

PROGRAM = "/somewhere/site-packages/monai/bundle/__main__.py"
KINDS = {"epochs": whole(1, 9), "size": SHARED["spatial_size"], "device": SHARED["device"]}
CONFIG = {
    "epochs": 4,
    "size": None,
    "device": "$'cpu'",
    "network": "$@body",
    "body": {"_target_": "torch.nn.Linear", "in_features": 2},
    "handlers": [],
    "train": {"trainer": {"_target_": "dict", "max_epochs": "@epochs", "network": "@body", "power": 0.9}},
    "print": True,
    "steps": "$@epochs * 2",
}


@pytest.fixture(autouse=True)
def hook(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # put back


def problems_of(folder, *arguments: str, fits=(), **changes) -> list[str]:
    (folder / "train.json").write_text(json.dumps(CONFIG | changes))
    argv = [PROGRAM, "run", "--config_file", str(folder / "train.json"), *arguments]
    try:
        check_settings(KINDS, fits, argv)
    except InputError as error:
        return error.problems
    return []


def test_all_wrong_words_and_mistyped_keys_are_said_together(tmp_path):
    assert problems_of(tmp_path, "--epochs", "0", "--size", "2,x,3", "--device", "gpu", "--epocs", "3") == [
        "--epocs: no such key in train.json; the closest is --epochs",
        "--epochs is 0; wanted a whole number from 1 to 9",
        "--size is (2, 'x', 3); wanted voxels above 0 for each axis, such as 64,48,32, or null",
        f"--device is 'gpu'; wanted {KINDS['device'].wanted}",
    ]


def test_an_edited_config_is_checked_as_well(tmp_path):
    assert problems_of(tmp_path, epochs=2.5, size=[1, 2]) == [
        "epochs is 2.5; wanted a whole number from 1 to 9",
        "size is [1, 2]; wanted voxels above 0 for each axis, such as 64,48,32, or null",
    ]
    assert problems_of(tmp_path, "--epochs", "3", epochs=2.5) == []


def test_args_file_is_checked_as_well(tmp_path):
    (tmp_path / "args.json").write_text(json.dumps({"epochs": 99}))
    found = problems_of(tmp_path, "--args_file", str(tmp_path / "args.json"))
    assert found == ["--epochs is 99; wanted a whole number from 1 to 9"]


@pytest.mark.parametrize(
    ("key", "word", "wanted"),
    [
        ("train::trainer::max_epochs", "0", "a whole number from 1 to 9"),  # the kind of what stands there, @epochs
        ("train#trainer#max_epochs", "two", "a whole number from 1 to 9"),
        ("train::trainer::network", "3", "a component, such as {'_target_': ...}, or an expression"),
        ("body", "3", "a component, such as {'_target_': ...}, or an expression"),
        ("body", "null", "a component, such as {'_target_': ...}, or an expression"),
        ("network", "two", "a component, such as {'_target_': ...}, or an expression"),
        ("body", "{}", "a component, such as {'_target_': ...}, or an expression"),
        ("train", "[]", "keys and values, such as {'key': ...}"),
        ("handlers", "3", "a list of components or texts"),
        ("handlers", "[1]", "a list of components or texts"),
        ("body::in_features", "2.5", "a whole number, or null"),
        ("train::trainer::power", "half", "a number, or null"),
        ("print", "maybe", "true or false (also 1, yes, on; 0, no, off)"),
    ],
)
def test_what_has_no_kind_of_its_own(tmp_path, key, word, wanted):
    found = problems_of(tmp_path, f"--{key}", word)
    assert len(found) == 1 and found[0].startswith(f"--{key} is ") and found[0].endswith(f"; wanted {wanted}")


@pytest.mark.parametrize(
    ("key", "word"),
    [("epochs", "$1 + 99"), ("device", "$'anything'"), ("train::trainer::max_epochs", "@steps"), ("handlers", "[a]"),
     ("body::_disabled_", "True"), ("network", "@body"), ("body", "{'_target_': 'dict'}"), ("size", "64"),
     ("print", "no"), ("train::trainer::power", "1"), ("train::trainer::amp", "anything"), ("size", "null")],
)  # fmt: skip
def test_what_is_left_to_monai_or_right(tmp_path, key, word):
    assert problems_of(tmp_path, f"--{key}", word) == []


def test_another_program_is_left_alone(tmp_path):
    check_settings(KINDS, argv=["monailabel", "start_server", "--epochs", "0"])


def test_what_does_not_fit_together_is_asked_of_what_is_right_by_itself(tmp_path):
    def fits(values):
        yield f"seen: {sorted(values.items())}"

    found = problems_of(tmp_path, "--epochs", "0", "--size", "8,8,8", fits=[fits])
    assert found == ["--epochs is 0; wanted a whole number from 1 to 9", "seen: [('size', [8, 8, 8])]"]


@pytest.mark.parametrize(
    ("values", "count"),
    [
        ({"channels": [4, 8], "strides": [2]}, 0),
        ({"channels": [4, 8, 16], "strides": [2]}, 1),
        ({"strides": [2, 2], "spatial_size": [32, 32, 8]}, 0),
        ({"strides": [2, 2], "spatial_size": [32, 32, 6]}, 1),
        ({"strides": [2, 2, 2], "spatial_size": [8, 8, 8]}, 1),  # one voxel is left, which no norm takes
        ({"strides": [2, 2], "spatial_size": None, "divisor": 8, "roi_size": [30, 32, 32]}, 1),
        ({"strides": [2, 2, 2, 2], "spatial_size": None, "divisor": 8}, 1),
        ({"strides": [2, 2, 2, 2], "spatial_size": None, "divisor": 16}, 0),
        ({"strides": [2, 2, 2, 2], "spatial_size": None}, 1),
        ({"strides": [1], "spatial_size": [1, 1, 1]}, 0),
        ({"spatial_size": [7, 7, 7]}, 0),
    ],
)
def test_settings_of_a_network_fit(values, count):
    found = list(unet_fits(values))
    assert len(found) == count
    if "channels" not in values:
        assert found == list(sizes_fit(values))
