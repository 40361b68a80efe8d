from __future__ import annotations

import pytest
import torch
from safetensors import safe_open

from support.ada_sam.volume import SIZE, VALUES, image, volume
from support.bundle.path import import_bundle
from support.networks.tiny_sam import use_tiny_sam
from support.networks.toy_adapter import FOLDED, KEPT

module = import_bundle("ada_sam", "slice_model.adapted")


def test_small_file_beside_the_bases_sha256_and_one_merged_file(tmp_path, monkeypatch, capsys):
    use_tiny_sam(monkeypatch, tmp_path / "weights")
    trained = volume(lora_rank=2)
    module.AdaptedModel(trained, str(tmp_path), "mobile_sam", "null", 32).write()
    assert "ada_sam.safetensors and ada_sam.pt" in capsys.readouterr().out
    network = trained.network
    with safe_open(tmp_path / "ada_sam.safetensors", framework="pt") as file:
        assert set(file.keys()) == set(network.adapted_tensors())
    merged = torch.load(tmp_path / "ada_sam.pt", weights_only=True)
    assert not any(".up." in name for name in merged) and "network.sam.image_encoder.pos_embed" in merged
    tensors = import_bundle("ada_sam", "common.sam.adapters.trainable_tensors")
    again = volume(lora_rank=2)
    with torch.no_grad():
        for name in network.adapted_tensors():
            again.network.state_dict()[name].zero_()
    base = tensors.load_trainable(tmp_path / "ada_sam.safetensors", again.network, {"sam": "mobile_sam"})
    assert torch.equal(again(image()), trained(image()))
    # a site learns from it what else it has to build
    assert base["image_size"] == 32 and len(base["sha256"]) == 64
    assert base["spatial_size"] == list(SIZE) and base["label_values"] == list(VALUES) and base["slice_axis"] == 2


def test_merged_file_is_left_out_where_the_run_writes_its_own(tmp_path, monkeypatch):
    use_tiny_sam(monkeypatch, tmp_path / "weights")
    module.AdaptedModel(volume(), str(tmp_path / "models"), "mobile_sam", merged=False).write()
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["ada_sam.safetensors"]


@pytest.mark.parametrize("adapter", [FOLDED, KEPT], ids=["folded in", "kept"])
def test_another_adapter_is_one_line_in_the_registry(tmp_path, monkeypatch, adapter):
    use_tiny_sam(monkeypatch, tmp_path / "weights")
    registry = import_bundle("ada_sam", "common.sam.adapters.registry")
    monkeypatch.setitem(registry.ADAPTERS, "gains", adapter)
    options = {"lora_rank": 2, "adapter": "gains", "amp": False}
    trained = volume(**options)
    network = trained.network
    gains = [name for name in network.trainable_parameters() if name.startswith("sam.image_encoder.")]
    assert len(gains) == 2 and all(name.endswith(".mlp.lin2.gain") for name in gains)
    before = {name: value.clone() for name, value in network.named_parameters()}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.5)
    slices = image()[0].movedim(-1, 0)
    network.look(network.encode(slices)).presence.square().mean().backward()
    optimizer.step()
    changed = {name for name, value in network.named_parameters() if not value.equal(before[name])}
    assert set(gains) < changed <= set(network.trainable_parameters())

    module.AdaptedModel(trained, str(tmp_path), "mobile_sam", image_size=32).write()
    with safe_open(tmp_path / "ada_sam.safetensors", framework="pt") as file:
        assert set(file.keys()) == set(network.adapted_tensors())
    merged = torch.load(tmp_path / "ada_sam.pt", weights_only=True)
    assert [f"network.{name}" in merged for name in gains] == [adapter.folded is None] * 2
    served = volume(attention=True, amp=False) if adapter.folded else volume(**options)
    wanted = trained.embed(image()[0])
    assert not served.embed(image()[0]).allclose(wanted, atol=1e-3)
    served.load_state_dict(merged, strict=True)
    torch.testing.assert_close(served.embed(image()[0]), wanted, rtol=1e-4, atol=1e-4)
