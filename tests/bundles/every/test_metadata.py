from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser, ckpt_export, verify_metadata, verify_net_in_out

from common.data.sample import LABELS, make_sample_cohort
from support.bundle.path import import_bundle

ROOT = Path(__file__).resolve().parents[3]
NAMES = ("rrl_medsam", "semisam_plus", "weakmedsam", "ada_sam", "sam_adapters")
BUNDLES = {name: ROOT / "bundles" / name for name in NAMES}
SCHEMA = ROOT.parent / "shared" / "schema" / "meta_schema_20240725.json"
SMALL = {"rrl_medsam": {"channels": [4, 4, 8, 8]}}
SMALL |= {name: {"channels": [4, 8], "strides": [2]} for name in NAMES[1:]}
CARD = {
    "rrl_medsam": ("OASIS", "CT-lung", "tools/datasets.py oasis", "2504.20501"),
    "semisam_plus": ("cleaned", "SAM-Med3D", "published.json", "not been run", "2502.20749"),
    "weakmedsam": ("slice_labels", "not bits alone", "slice index alone", "has not been run", "2503.04106"),
    "ada_sam": ("label_slices", "num_label_slices", "own prompts", "sha256", "has not been run", "2507.01828"),
    "sam_adapters": ("num_labeled", "plain UNet", "h_sam.json", "not been run", "2403.18271", "2309.08842"),
}
CONFIGS = {f"{name}.json" for name in ("train", "inference", "evaluate", "multi_gpu_train", "metadata")}
CONFIGS |= {"paper.json", "paper_inference.json", "published.json", "published_inference.json", "sam_inference.json"}
CONFIGS |= {"long.json", "knowsam.json", "zero_step.json", "cpc_sam.json"}
CONFIGS |= {f"{name}.json" for name in ("h_sam", "ma_sam", "adapter_3d", "auto_sam", "esp_medsam", "self_prompt_sam")}
CONFIGS |= {"db_sam.json", "med_sa.json"}


@pytest.fixture(params=BUNDLES)
def bundle(request: pytest.FixtureRequest) -> str:
    return request.param


def read(bundle: str, name: str) -> dict:
    return json.loads((BUNDLES[bundle] / "configs" / name).read_text(encoding="utf-8"))


def default_grid(bundle: str) -> dict:
    return read(bundle, "inference.json")["grid"]["default"]


@pytest.fixture
def inside_bundle(bundle: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Work as from inside the bundle folder."""
    monkeypatch.chdir(BUNDLES[bundle])
    import_bundle(bundle)
    return bundle


@pytest.mark.skipif(not SCHEMA.exists(), reason=f"needs {SCHEMA}")
def test_metadata_is_true_to_the_newest_schema(bundle, tmp_path):
    metadata, path = read(bundle, "metadata.json"), BUNDLES[bundle] / "configs" / "metadata.json"
    schema = tmp_path / "schema.json"
    schema.write_bytes(SCHEMA.read_bytes())
    verify_metadata(meta_file=str(path), filepath=str(schema))
    assert metadata["schema"].endswith("/" + SCHEMA.name)
    # and the check is able to fail
    (tmp_path / "metadata.json").write_text(json.dumps({k: v for k, v in metadata.items() if k != "authors"}))
    with pytest.raises(ValueError, match="authors"):
        verify_metadata(meta_file=str(tmp_path / "metadata.json"), filepath=str(schema))


def test_versions_are_those_that_are_pinned(bundle):
    metadata = read(bundle, "metadata.json")
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    named = {"monai": "monai_version", "torch": "pytorch_version", "numpy": "numpy_version"}
    assert {package: metadata[key] for package, key in named.items()} == {package: pinned[package] for package in named}
    required = metadata["required_packages_version"]
    assert required == {package: pinned[package] for package in required}
    assert metadata["version"] in metadata["changelog"]


def test_labels_and_grid_are_those_of_the_sample_cohort(bundle):
    grid = default_grid(bundle)
    outputs, inputs = (read(bundle, "metadata.json")["network_data_format"][side] for side in ("outputs", "inputs"))
    assert list(inputs) == ["image"] and list(outputs) == ["pred"]
    assert outputs["pred"]["channel_def"] == LABELS
    assert outputs["pred"]["num_channels"] == len(LABELS) == len(grid["label_values"])
    assert inputs["image"]["spatial_shape"] == outputs["pred"]["spatial_shape"] == grid["spatial_size"]


@pytest.mark.slow
def test_default_grid_is_what_training_plans_for_the_sample_cohort(tmp_path):
    from common.data.datalist import read_datalist
    from common.grid.plan import plan_grid

    content = read_datalist(make_sample_cohort(tmp_path / "sample"))
    planned = plan_grid(content.training, content.labels).as_dict()
    assert all(planned.items() >= default_grid(bundle).items() for bundle in BUNDLES)


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
    parser.update({"ckpt_path": str(tmp_path / "missing.pt"), **SMALL[inside_bundle]})
    network = parser.get_parsed_content("network_def").eval()
    torch.save(network.state_dict(), tmp_path / "model.pt")
    ckpt_export(
        net_id="network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(tmp_path / "model.pt"),
        meta_file="configs/metadata.json",
        config_file="configs/inference.json",
        ckpt_path=str(tmp_path / "model.pt"),
        **SMALL[inside_bundle],
    )
    extra = {"metadata.json": "", "inference.json": ""}
    exported = torch.jit.load(tmp_path / "model.ts", _extra_files=extra).eval()
    image = torch.rand(1, 1, *default_grid(inside_bundle)["spatial_size"])
    with torch.inference_mode():
        assert torch.allclose(exported(image), network(image), atol=1e-4)
    assert json.loads(extra["metadata.json"])["version"] == read(inside_bundle, "metadata.json")["version"]


def test_model_card_is_complete(bundle):
    card = (BUNDLES[bundle] / "docs" / "README.md").read_text(encoding="utf-8")
    for word in ("Intended use", "Limits", "synthetic", *CARD[bundle]):
        assert word in card, word
    assert not re.search(r"TODO|FIXME|/work/|/home/|/tmp/", card)
    assert set(re.findall(r"configs/(\w+\.json)", card)) <= CONFIGS
    assert (BUNDLES[bundle] / "docs" / "data_license.txt").read_text(encoding="utf-8").strip()
    assert (BUNDLES[bundle] / "LICENSE").is_file()
