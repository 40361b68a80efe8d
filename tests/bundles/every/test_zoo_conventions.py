"""What the model zoo's CI and its contributing guide ask of a bundle and no other test looks at.

The rest of it: test_metadata.py (schema, pinned versions, network's input and output, export, model card, licence of
data), test_config_rules.py (properties of MONAI), test_*_bundle.py (check_properties), test_export.py (ONNX).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser

from support.bundle.run import ADA, RRL, SEMISAM, WEAK
from tools.packing.bundle_files import collect_files

BUNDLES = {run.name: run for run in (RRL, SEMISAM, WEAK, ADA)}
NETWORK = ("channels", "strides")
LARGE = 25_000_000  # bytes; the zoo keeps larger files elsewhere and wants them listed
TRAINING = (
    "bundle_root output_dir dataset_dir device network_def network train::trainer train::trainer::max_epochs "
    "train::dataset train::dataset::data train::dataloader train::inferer train::handlers validate::evaluator "
    "validate::dataset validate::dataset::data validate::dataloader validate::inferer validate::handlers "
    "validate::postprocessing initialize run"
).split()
INFERENCE = (
    "bundle_root output_dir dataset_dir device network_def network preprocessing postprocessing dataset dataloader "
    "inferer evaluator handlers initialize run"
).split()
TEXTS = ("name", "task", "description", "authors", "copyright", "data_source", "data_type", "image_classes")
TEXTS += ("label_classes", "pred_classes", "intended_use")

# the zoo's CI puts the bundle's folder first on the path and works from another one
CHECKS = """
import sys
from pathlib import Path
from monai.bundle import ConfigParser, ckpt_export, verify_net_in_out
import json, torch

path = list(sys.path)
for folder in map(Path, sys.argv[1:]):
    for name in [name for name in sys.modules if name.split(".")[0] == "scripts"]:
        del sys.modules[name]
    sys.path[:] = [str(folder), *path]
    files = {"meta_file": str(folder / "configs/metadata.json"), "config_file": str(folder / "configs/inference.json")}
    parser = ConfigParser()
    parser.read_config(files["config_file"])
    parser["grid::default"] = json.loads(sys.stdin.readline())
    model = folder / "models" / "model.pt"
    torch.save(parser.get_parsed_content("network_def").state_dict(), model)
    verify_net_in_out("network_def", **files)
    ckpt_export("network_def", filepath=str(folder / "models" / "verify_model.ts"), ckpt_file=str(model), **files)
    torch.jit.load(folder / "models" / "verify_model.ts")
    parser = ConfigParser()
    parser.read_config(files["config_file"])
    print(json.dumps(parser.get_parsed_content("grid").as_dict()))
"""


@pytest.fixture(params=BUNDLES)
def bundle(request: pytest.FixtureRequest) -> Path:
    return BUNDLES[request.param].folder


def read(bundle: Path, name: str) -> dict[str, Any]:
    return json.loads((bundle / "configs" / name).read_text(encoding="utf-8"))


def test_files_are_those_of_a_bundle(bundle):
    files = collect_files(bundle)
    needed = {"LICENSE", "configs/metadata.json", "configs/train.json", "configs/inference.json"}
    assert needed | {"docs/README.md", "docs/data_license.txt", "scripts/__init__.py"} <= files.keys()
    assert {name.split("/")[0] for name in files} == {"LICENSE", "configs", "docs", "scripts"}
    assert "Apache License" in files["LICENSE"].read_text(encoding="utf-8")
    assert not [name for name, path in files.items() if path.stat().st_size > LARGE]
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", bundle.name)


def test_metadata_says_what_the_zoo_shows(bundle):
    metadata = read(bundle, "metadata.json")
    for key in TEXTS:
        assert isinstance(metadata[key], str) and metadata[key].strip(), key
    assert metadata["references"] and isinstance(metadata["eval_metrics"], dict)
    numbers = [tuple(map(int, version.split("."))) for version in metadata["changelog"]]
    assert numbers == sorted(numbers, reverse=True) and metadata["version"] == next(iter(metadata["changelog"]))
    assert all(text.strip() for text in metadata["changelog"].values())
    said = (bundle.parents[1] / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"`bundles/{bundle.name}` {metadata['version']}: " in said
    for side in metadata["network_data_format"].values():
        for tensor in side.values():
            assert set(tensor["channel_def"]) == {str(channel) for channel in range(tensor["num_channels"])}


def test_supported_apps_are_none_that_the_zoo_would_look_for(bundle):
    """An entry makes its CI load that application's list of properties; ours are held by tests/clients instead."""
    assert read(bundle, "metadata.json")["supported_apps"] == {}


@pytest.mark.parametrize(("name", "keys"), [("train.json", TRAINING), ("inference.json", INFERENCE)])
def test_keys_have_the_zoos_names(bundle, name, keys):
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / name))
    assert [key for key in keys if key not in parser] == []


@pytest.mark.slow
def test_network_is_checked_and_exported_from_another_folder(tmp_path):
    """`bundle_root` has to be found there: a grid that inference.json doesn't name shows whether model.pt was."""
    grids, folders = [], []
    for number, (name, run) in enumerate(BUNDLES.items()):
        folder = run.copy(tmp_path / name)
        metadata, config = read(folder, "metadata.json"), read(folder, "inference.json")
        size = metadata["network_data_format"]["inputs"]["image"]["spatial_shape"]
        grids.append({"spatial_size": size, "pixdim": [1.5, 1.5, 1.5], "label_values": [0, 1, 2, 3, 4, 10 + number]})
        folders.append(str(folder))
        config |= {key: run.tiny[key] for key in NETWORK if key in run.tiny}
        (folder / "configs" / "inference.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "work").mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", CHECKS, *folders],
        cwd=tmp_path / "work",
        env={**environment, "PYTHONDONTWRITEBYTECODE": "1"},
        input="".join(json.dumps(grid) + "\n" for grid in grids),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")] == grids
    assert not list((tmp_path / "work").iterdir())
