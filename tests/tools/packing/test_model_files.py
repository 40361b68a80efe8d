from __future__ import annotations

import shutil
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from common.errors import InputError
from support.bundle.network import first_network
from support.bundle.packable import make_bundle
from tools.packing.model_files import add_torchscript, add_weights


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle with plain files behind its link, as it is packed, and its model."""
    made = make_bundle(tmp_path_factory.mktemp("repository"))
    return Path(shutil.copytree(made, tmp_path_factory.mktemp("plain") / made.name, symlinks=False))


def test_weights_are_copied_as_they_are_and_again_as_safetensors(bundle, tmp_path):
    source = bundle / "models" / "model.pt"
    count = add_weights(source, tmp_path / "models")
    assert (tmp_path / "models" / "model.pt").read_bytes() == source.read_bytes()
    wanted, found = torch.load(source, weights_only=True), load_file(tmp_path / "models" / "model.safetensors")
    assert len(wanted) == count and found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) and found[name].dtype == wanted[name].dtype for name in wanted)


def test_tensors_that_share_memory_are_each_written(tmp_path):
    shared = torch.arange(6.0).reshape(2, 3)
    torch.save({"a": shared, "b": shared.T}, tmp_path / "model.pt")
    add_weights(tmp_path / "model.pt", tmp_path / "models")
    found = load_file(tmp_path / "models" / "model.safetensors")
    assert torch.equal(found["a"], shared) and torch.equal(found["b"], shared.T)


def test_weights_of_a_gpu_are_packed_for_machines_without_one(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        torch.save(OrderedDict(a=torch.arange(3.0)), tmp_path / "model.pt")
    with pytest.raises(RuntimeError):
        torch.load(tmp_path / "model.pt", weights_only=True)
    add_weights(tmp_path / "model.pt", tmp_path / "models")
    assert torch.equal(torch.load(tmp_path / "models" / "model.pt", weights_only=True)["a"], torch.arange(3.0))


class Harm:
    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return open, (self.marker, "w")


def test_anything_but_tensors_by_name_is_refused_and_not_executed(tmp_path):
    cases = {
        "wanted a file of tensors": Harm(tmp_path / "marker"),
        "found no tensors by name": [torch.zeros(1)],
        "epoch are no tensors": {"a": torch.zeros(1), "epoch": 3},
    }
    for said, content in cases.items():
        torch.save(content, tmp_path / "model.pt")
        with pytest.raises(InputError, match=said):
            add_weights(tmp_path / "model.pt", tmp_path / "models")
    assert not (tmp_path / "marker").exists() and not (tmp_path / "models").exists()
    with pytest.raises(InputError, match="no such file; wanted a trained model"):
        add_weights(tmp_path / "missing.pt", tmp_path / "models")


def test_torchscript_is_the_same_network_without_a_path_of_this_machine(bundle, tmp_path):
    target = bundle / "models" / "model.ts"
    add_torchscript(bundle)
    again = Path(shutil.copytree(bundle, tmp_path / "elsewhere" / bundle.name))
    add_torchscript(again)
    assert (again / "models" / "model.ts").read_bytes() == target.read_bytes()
    with zipfile.ZipFile(target) as archive:
        content = b"".join(archive.read(name) for name in archive.namelist())
    assert str(bundle).encode() not in content and str(Path(torch.__file__).parent).encode() not in content

    extra = {"metadata.json": "", "inference.json": ""}
    exported, wanted = torch.jit.load(target, _extra_files=extra).eval(), first_network(bundle)
    image = torch.rand(1, 1, 24, 20, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.allclose(exported(image), wanted(image), atol=1e-4)
    assert b"0.1.0" in extra["metadata.json"] and b"network_def" in extra["inference.json"]


def test_a_model_of_another_network_is_no_torchscript(bundle, tmp_path):
    other = Path(shutil.copytree(bundle, tmp_path / bundle.name))
    content = torch.load(other / "models" / "model.pt", weights_only=True)
    content.pop(next(name for name in content if name.endswith("weight")))
    torch.save(content, other / "models" / "model.pt")
    (other / "models" / "model.ts").unlink(missing_ok=True)
    with pytest.raises(InputError, match=r"model.ts: can't be made .* or pack --without-torchscript"):
        add_torchscript(other)
    assert not (other / "models" / "model.ts").exists()
