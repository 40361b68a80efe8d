from __future__ import annotations

import pytest
import torch
from torch import nn

from common.errors import InputError
from common.sam.adapters.registry import ADAPTERS, adapter_parameters, add_adapter, merged_state
from support.networks.tiny_sam import tiny_sam
from support.networks.toy_adapter import FOLDED, KEPT


@pytest.fixture(params=["lora", "bottleneck", "fact", "folded gains", "kept gains"])
def kind(request, monkeypatch) -> str:
    monkeypatch.setitem(ADAPTERS, "folded gains", FOLDED)
    monkeypatch.setitem(ADAPTERS, "kept gains", KEPT)
    if request.param.endswith("gains"):  # their layers are the same
        monkeypatch.delitem(ADAPTERS, "kept gains" if request.param == "folded gains" else "folded gains")
    return request.param


def make_encoder() -> nn.Module:
    return tiny_sam(attention=True).image_encoder


@torch.no_grad()
def test_an_adapter_is_added_named_and_folded_in(kind) -> None:
    encoder, image = make_encoder(), torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    before, published = encoder(image), encoder.state_dict()
    names = add_adapter(kind, encoder, 2)
    assert names == adapter_parameters(encoder) and not set(names) & set(published)
    assert encoder(image).equal(before) and set(encoder.state_dict()) == {*published, *names}
    own = dict(encoder.named_parameters())
    for name in names:
        nn.init.normal_(own[name], std=0.3)
    trained, held = encoder(image), {name: value.clone() for name, value in encoder.state_dict().items()}
    assert not trained.allclose(before, atol=1e-3)
    state = merged_state(nn.ModuleDict({"encoder": encoder}))
    assert all(value.equal(held[name]) for name, value in encoder.state_dict().items())
    plain = make_encoder()
    if ADAPTERS[kind].folded is None:
        assert {f"encoder.{name}" for name in names} < set(state)
        add_adapter(kind, plain, 2)
    # in the order of the layers without adapters
    assert list(state) == [f"encoder.{name}" for name in plain.state_dict()]
    nn.ModuleDict({"encoder": plain}).load_state_dict(state)
    torch.testing.assert_close(plain(image), trained, atol=1e-5, rtol=1e-5)


def test_without_adapters_there_is_nothing_to_name_or_fold() -> None:
    encoder = make_encoder()
    state = merged_state(encoder)
    assert adapter_parameters(encoder) == [] and list(state) == list(encoder.state_dict())
    assert all(value.equal(state[name]) for name, value in encoder.state_dict().items())


def test_an_unknown_kind_is_refused() -> None:
    encoder = make_encoder()
    with pytest.raises(InputError, match="adapter: found 'ia3', wanted one of lora"):
        add_adapter("ia3", encoder, 2)
    assert adapter_parameters(encoder) == []
