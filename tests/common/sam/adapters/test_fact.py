from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from common.errors import InputError
from common.sam.adapters.fact import FactorLinear, SharedFactors, add_factors
from common.sam.adapters.lora import add_lora
from common.sam.members.tiny_vit import TinyViT
from support.networks.tiny_sam import tiny_sam


@torch.no_grad()
@pytest.mark.parametrize("heads", [1, 4])
def test_queries_and_values_get_their_core_between_the_shared_factors_and_keys_nothing(heads):
    linear, x = nn.Linear(8, 24), torch.randn(3, 8)
    shared = SharedFactors(linear.weight, 8, 2)
    nn.init.normal_(shared.out)
    layer = FactorLinear(linear, heads, shared, 2)
    # [3, heads, q k v, 8 / heads]: the order in which the rows lie
    added = (layer(x) - linear(x)).view(3, heads, 3, 8 // heads)
    for number, part in enumerate("qkv"):
        wanted = torch.zeros(3, 8)
        if part != "k":
            wanted = F.linear(F.linear(F.linear(x, shared.into), layer.core[part]), shared.out)
        torch.testing.assert_close(added[:, :, number].flatten(1), wanted, atol=1e-5, rtol=1e-5)


def test_layers_of_one_width_share_their_factors_and_each_has_its_cores():
    names = add_factors(encoder := TinyViT(), 4)
    widths = {layer.in_features for layer in encoder.modules() if isinstance(layer, FactorLinear)}
    layers = sum(isinstance(layer, FactorLinear) for layer in encoder.modules())
    assert len(names) == len(set(names)) == 2 * len(widths) + 2 * layers
    assert {name.split(".")[0] for name in names if name.endswith(".into")} == {f"fact_{width}" for width in widths}


@torch.no_grad()
def test_a_copy_has_factors_of_its_own():
    encoder, image = tiny_sam(attention=True).image_encoder, torch.rand(1, 3, 64, 64)
    add_factors(encoder, 2)
    other, before = copy.deepcopy(encoder), encoder(image)
    nn.init.normal_(other.fact_32.out)
    assert encoder(image).equal(before) and not other(image).allclose(before)


def test_what_can_not_be_is_refused_and_changes_nothing():
    encoder = tiny_sam(attention=True).image_encoder
    with pytest.raises(InputError, match="rank is 0, wanted a whole number above 0"):
        add_factors(encoder, 0)
    with pytest.raises(InputError, match="found no attention with a fused qkv in TinyEncoder"):
        add_factors(tiny_sam().image_encoder, 2)
    add_lora(encoder, 2)
    before = list(encoder.state_dict())
    with pytest.raises(InputError, match=r"found LowRankLinear at .*wanted a plain layer"):
        add_factors(encoder, 2)
    assert list(encoder.state_dict()) == before
