from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from common.launch.overrides import is_expression, parse_flags, read_command

PROGRAM = "/somewhere/site-packages/monai/bundle/__main__.py"
TRAIN = {
    "epochs": 4,
    "learning_rate": 1e-3,
    "resume": False,
    "network_def": {"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 3},
    "train": {
        "trainer": {"_target_": "builtins.dict", "max_epochs": "@epochs"},
        "handlers": [{"_target_": "builtins.dict", "name": "a"}],
        "preprocessing": "%train#handlers",
    },
    "run": ["$print('trained', @epochs)"],
}


@pytest.fixture
def bundle(tmp_path):
    configs = tmp_path / "configs"
    configs.mkdir()
    (configs / "train.json").write_text(json.dumps(TRAIN))
    (configs / "evaluate.json").write_text(json.dumps({"output_postfix": "seg", "train#trainer#amp": True}))
    (configs / "metadata.json").write_text(json.dumps({"version": "0.1.0"}))
    return configs


def problems_of(bundle: Path, *arguments: str, command: str = "run", config: str | None = None, **options) -> list[str]:
    config = str(bundle / "train.json") if config is None else config
    return read_command([PROGRAM, command, "--config_file", config, *arguments], **options).problems


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--epochs", "3"),
        ("--epochs=3",),
        ("--learning-rate", "-0.1"),
        ("--resume",),
        ("--noresume",),
        ("--train#trainer#max_epochs", "3"),
        ("--train::trainer::max_epochs=3",),
        ("--train#trainer#amp", "True"),  # the constructor of a component refuses what it doesn't know
        ("--train#handlers#0#_disabled_", "True"),
        ("--train#handlers#0#name", "b"),
        ("--+network_def", "{'bias': False}"),
        ("--_meta_#version", "2"),
        ("--run_id", "run", "--init_id=x", "--final_id", "y", "--tracking", "mlflow", "--logging_file", "z"),
        ("--workflow_type", "train"),
        ("--train#handlers", "[{'_target_': 'dict'}, {'_target_': 'dict'}]", "--train#handlers#1#name", "b"),
    ],
)
@pytest.mark.parametrize("command", ["run", "run_workflow"])
def test_known_keys_pass(bundle, arguments, command):
    assert problems_of(bundle, *arguments, command=command) == []


@pytest.mark.parametrize(
    ("arguments", "key", "closest"),
    [
        (("--epocs", "3"), "epocs", "epochs"),
        (("--epocs=3",), "epocs", "epochs"),
        (("-epocs", "3"), "epocs", "epochs"),
        (("--reusme",), "reusme", "resume"),
        (("--+netwrok_def", "{}"), "+netwrok_def", "network_def"),
        (("--max_epochs", "3"), "max_epochs", "train#trainer#max_epochs"),
        (("--train#traner#max_epochs", "3"), "train#traner#max_epochs", "train#trainer#max_epochs"),
        (("--train::max_epochs", "3"), "train::max_epochs", "train::trainer::max_epochs"),
        (("--train#handlers#1", "{}"), "train#handlers#1", "train#handlers#0"),
        (("--train#handlers#0#_disable_", "True"), "train#handlers#0#_disable_", "train#handlers#0#_target_"),
        (("--train#preprocessing#0#name", "x"), "train#preprocessing#0#name", "train#handlers#0#name"),  # a macro
        (("--_meta_#verson", "2"), "_meta_#verson", "_meta_#version"),
        (("--epochs#x", "2"), "epochs#x", "epochs"),
    ],
)
def test_mistyped_key_is_named_with_the_closest(bundle, arguments, key, closest):
    assert problems_of(bundle, *arguments) == [f"--{key}: no such key in train.json; the closest is --{closest}"]


def test_nothing_close_and_several_at_once(bundle):
    problems = problems_of(bundle, "--zzzzzz", "1", "--epochs", "2", "--epocs", "3")
    assert problems[0] == "--zzzzzz: no such key in train.json"
    assert len(problems) == 2 and problems[1].endswith("--epochs")


def test_several_config_files_and_positional_run_id(bundle):
    both = str([str(bundle / "train.json"), str(bundle / "evaluate.json")])
    assert problems_of(bundle, "--output_postfix", "x", config=both) == []
    assert "in train.json, evaluate.json" in problems_of(bundle, "--output_posfix", "x", config=both)[0]
    assert problems_of(bundle, "--output_postfix", "x") == ["--output_postfix: no such key in train.json"]
    assert read_command([PROGRAM, "run", "run", "--config_file", str(bundle / "train.json"), "--epochs", "3"]).given
    files = [str(bundle / "train.json"), str(bundle / "evaluate.json")]
    assert problems_of(bundle, "--output_postfix", "x", config_files=files) == []


def test_args_file(bundle):
    defaults = bundle / "args.json"
    defaults.write_text(json.dumps({"config_file": str(bundle / "train.json"), "epochs": 3}))
    command = read_command([PROGRAM, "run", "--args_file", str(defaults), "--resume", "True"])
    assert command.given == [("epochs", 3, 4), ("resume", True, False)] and command.problems == []
    defaults.write_text(json.dumps({"config_file": str(bundle / "train.json"), "epocs": 3}))
    problems = read_command([PROGRAM, "run", "--args_file", str(defaults)]).problems
    assert len(problems) == 1 and problems[0].startswith("--epocs: no such key")


def test_metadata_of_another_place(bundle):
    other = bundle.parent / "other.json"
    other.write_text(json.dumps({"task": "x"}))
    assert problems_of(bundle, "--meta_file", str(other), "--_meta_#task", "y") == []
    assert "_meta_#version" in problems_of(bundle, "--meta_file", str(other), "--_meta_#version", "y")[0]


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["pytest", "--epocs", "3"],
        ["/venv/bin/pytest", "run", "--epocs", "3"],
        ["monailabel", "start_server", "--epocs", "3"],
        [PROGRAM],
        [PROGRAM, "ckpt_export", "--epocs", "3"],
        [PROGRAM, "run", "--epocs", "3"],  # no config: MONAI says so itself
    ],
)
def test_other_programs_are_left_alone(argv):
    assert read_command(argv) is None


def test_argv_of_the_process_is_the_default(bundle, monkeypatch):
    assert read_command() is None
    monkeypatch.setattr(sys, "argv", [PROGRAM, "run", "--config_file", str(bundle / "train.json"), "--epocs", "3"])
    assert "epocs" in read_command().problems[0]


def test_configs_are_merged_with_what_is_given(bundle):
    arguments = ["--train::trainer::max_epochs", "3", "--+network_def", "{'bias': False}", "--epochs", "$1 + 1"]
    command = read_command([PROGRAM, "run", "--config_file", str(bundle / "train.json"), *arguments])
    assert command.given == [("train::trainer::max_epochs", 3, "@epochs"), ("epochs", "$1 + 1", 4)]
    assert command.config["train::trainer::max_epochs"] == 3 and command.config["epochs"] == "$1 + 1"


def test_expressions_are_told_from_texts():
    assert all(map(is_expression, ("$1", "@a", "%a"))) and not any(map(is_expression, ("a$", "", 1, None)))


@pytest.mark.parametrize(
    "line",
    [
        "--a 1 --b=2 --c",
        "--a --b",
        "--noa --no --nob=1",
        "run_id --a -1 -b 2 -c=3 --long-name x",
        "--a#b#c {'x':1} --+d [1,2]",
        "--a=b=c",
        "a=1 b",
        "--a 1 - --b 2",
        "--a 1 -- --help",
        "--x -0.5",
    ],
)
def test_flags_are_split_as_fire_does(line):
    import fire.core
    import fire.inspectutils
    import fire.parser

    def anything(**override):
        return override

    arguments, _ = fire.parser.SeparateFlagArgs(line.split())
    arguments = arguments[: arguments.index("-")] if "-" in arguments else arguments
    spec = fire.inspectutils.GetFullArgSpec(anything)
    assert dict(parse_flags(line.split())) == fire.core._ParseKeywordArgs(arguments, spec)[0]
