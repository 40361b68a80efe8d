from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser, ckpt_export, verify_metadata, verify_net_in_out

from common.sample import LABELS, make_sample_cohort

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "bundles" / "rrl_medsam"
SCHEMA = ROOT.parent / "shared" / "schema" / "meta_schema_20240725.json"
METADATA = json.loads((BUNDLE / "configs" / "metadata.json").read_text(encoding="utf-8"))
DEFAULT_GRID = json.loads((BUNDLE / "configs" / "inference.json").read_text(encoding="utf-8"))["grid"]["default"]


@pytest.fixture
def inside_bundle(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work as from inside the bundle folder, and forget its `scripts` afterwards."""
    monkeypatch.chdir(BUNDLE)
    monkeypatch.syspath_prepend(str(BUNDLE))
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "scripts"]:
        del sys.modules[name]


@pytest.mark.skipif(not SCHEMA.exists(), reason=f"needs {SCHEMA}")
def test_metadata_is_true_to_the_newest_schema(tmp_path):
    schema = tmp_path / "schema.json"
    schema.write_bytes(SCHEMA.read_bytes())
    verify_metadata(meta_file=str(BUNDLE / "configs" / "metadata.json"), filepath=str(schema))
    assert METADATA["schema"].endswith("/" + SCHEMA.name)
    # and the check is able to fail
    (tmp_path / "metadata.json").write_text(json.dumps({k: v for k, v in METADATA.items() if k != "authors"}))
    with pytest.raises(ValueError, match="authors"):
        verify_metadata(meta_file=str(tmp_path / "metadata.json"), filepath=str(schema))


def test_versions_are_those_that_are_pinned():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    named = {"monai": "monai_version", "torch": "pytorch_version", "numpy": "numpy_version"}
    assert {package: METADATA[key] for package, key in named.items()} == {package: pinned[package] for package in named}
    required = METADATA["required_packages_version"]
    assert required == {package: pinned[package] for package in required}
    assert METADATA["version"] in METADATA["changelog"]


def test_labels_and_grid_are_those_of_the_sample_cohort():
    outputs, inputs = (METADATA["network_data_format"][side] for side in ("outputs", "inputs"))
    assert list(inputs) == ["image"] and list(outputs) == ["pred"]
    assert outputs["pred"]["channel_def"] == LABELS
    assert outputs["pred"]["num_channels"] == len(LABELS) == len(DEFAULT_GRID["label_values"])
    assert inputs["image"]["spatial_shape"] == outputs["pred"]["spatial_shape"] == DEFAULT_GRID["spatial_size"]


@pytest.mark.slow
def test_default_grid_is_what_training_plans_for_the_sample_cohort(tmp_path):
    from common.data import read_datalist
    from common.preprocessing import plan_grid

    content = read_datalist(make_sample_cohort(tmp_path / "sample"))
    assert {**plan_grid(content.training), "label_values": list(content.labels)} == DEFAULT_GRID


def test_network_is_made_without_any_file_and_fits_the_metadata(inside_bundle, tmp_path):
    verify_net_in_out(
        net_id="network_def",
        meta_file="configs/metadata.json",
        config_file="configs/inference.json",
        ckpt_path=str(tmp_path / "missing.pt"),
        device="cpu",
    )


def test_export_gives_the_same_network(inside_bundle, tmp_path):
    torch.manual_seed(0)
    parser = ConfigParser()
    parser.read_config("configs/inference.json")
    parser.update({"ckpt_path": str(tmp_path / "missing.pt"), "channels": [4, 4, 8, 8]})
    network = parser.get_parsed_content("network_def").eval()
    torch.save(network.state_dict(), tmp_path / "model.pt")
    ckpt_export(
        net_id="network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(tmp_path / "model.pt"),
        meta_file="configs/metadata.json",
        config_file="configs/inference.json",
        ckpt_path=str(tmp_path / "model.pt"),
        channels=[4, 4, 8, 8],
    )
    extra = {"metadata.json": "", "inference.json": ""}
    exported = torch.jit.load(tmp_path / "model.ts", _extra_files=extra).eval()
    image = torch.rand(1, 1, *DEFAULT_GRID["spatial_size"])
    with torch.inference_mode():
        assert torch.allclose(exported(image), network(image), atol=1e-4)
    assert json.loads(extra["metadata.json"])["version"] == METADATA["version"]


def test_model_card_is_complete():
    card = (BUNDLE / "docs" / "README.md").read_text(encoding="utf-8")
    for word in ("Intended use", "Limits", "OASIS", "CT-lung", "tools/datasets.py oasis", "synthetic", "2504.20501"):
        assert word in card, word
    assert not re.search(r"TODO|FIXME|/work/|/home/|/tmp/", card)
    for name in re.findall(r"configs/(\w+\.json)", card):
        assert name in (
            "train.json",
            "inference.json",
            "evaluate.json",
            "multi_gpu_train.json",
            "metadata.json",
            "paper.json",
        ), name
    assert (BUNDLE / "docs" / "data_license.txt").read_text(encoding="utf-8").strip()
    assert (BUNDLE / "LICENSE").is_file()
