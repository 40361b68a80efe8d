from __future__ import annotations

import json
import re

import pytest
import torch

from common.data.label_names import channel_names
from common.errors import InputError
from support.bundle.packable import make_bundle
from tools.describe_model import describe_model, main
from tools.pack import pack


@pytest.fixture
def bundle(tmp_path):
    """A bundle whose model has three classes, where its metadata.json says six."""
    folder = make_bundle(tmp_path, model=False)
    tensors = {"spatial_size": [24.0, 16, 8], "pixdim": [1.0, 1, 2], "label_values": [0.0, 1, 4]}
    torch.save({name: torch.tensor(value) for name, value in tensors.items()}, folder / "models" / "model.pt")
    return folder


def metadata(bundle):
    return json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))


def test_names_number_and_size_come_into_the_metadata_and_nothing_else_changes(bundle, tmp_path, capsys):
    labels = {"0": "background", "1": "kidney", "4": "tumour"}
    image = tmp_path / "scan.nii.gz"
    image.write_bytes(b"")
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels, "training": ["scan.nii.gz"]}))
    before = metadata(bundle)
    assert main([str(bundle), str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith("metadata.json: background, kidney, tumour\n")
    after = metadata(bundle)
    found = after["network_data_format"]["outputs"]["pred"]
    assert found["num_channels"] == 3 and found["spatial_shape"] == [24, 16, 8]
    assert channel_names(bundle / "configs" / "metadata.json") == ["background", "kidney", "tumour"]
    assert after["network_data_format"]["inputs"]["image"]["spatial_shape"] == [24, 16, 8]
    for content in (before, after):
        found = content["network_data_format"]["outputs"]["pred"]
        del found["num_channels"], found["channel_def"], found["spatial_shape"]
        del content["network_data_format"]["inputs"]["image"]["spatial_shape"]
    assert before == after
    assert '"spatial_shape": [24, 16, 8]' in (bundle / "configs" / "metadata.json").read_text(encoding="utf-8")


def test_names_alone_describe_a_bundle_without_a_model(bundle):
    (bundle / "models" / "model.pt").unlink()
    size = metadata(bundle)["network_data_format"]["inputs"]["image"]["spatial_shape"]
    assert main([str(bundle), "--labels", "kidney"]) == 0
    assert metadata(bundle)["network_data_format"]["outputs"]["pred"]["num_channels"] == 2
    assert metadata(bundle)["network_data_format"]["inputs"]["image"]["spatial_shape"] == size


def test_other_numbers_of_names_than_classes_are_refused_and_nothing_is_written(bundle):
    before = metadata(bundle)
    model = bundle / "models" / "model.pt"
    for names, told in (
        (["background", "kidney"], "has 3 classes, background included; 2 names are given"),
        (["background", "Kidney", "kidney"], "wanted different names"),
        (["background"], "at least one beside the background"),
    ):
        with pytest.raises(InputError, match=told):
            describe_model(bundle, names, model)
    assert metadata(bundle) == before
    with pytest.raises(SystemExit):
        main([str(bundle)])


def test_a_model_that_the_metadata_does_not_describe_is_not_packed(bundle, tmp_path):
    model = bundle / "models" / "model.pt"
    wanted = re.escape("num_channels is 6 and channel_def has 6 names; wanted 3")
    with pytest.raises(InputError, match=wanted + r".*describe_model"):
        pack(bundle, tmp_path / "dist", model, torchscript=False)
    describe_model(bundle, ["background", "kidney", "tumour"], model)
    assert pack(bundle, tmp_path / "dist", model, torchscript=False)[0].is_file()
