from __future__ import annotations

import pytest
import torch
from torch import nn

from common.errors import InputError
from common.sam.adapters.bottleneck import BESIDE, add_bottlenecks
from common.sam.members.tiny_vit import TinyViT
from support.networks.tiny_sam import tiny_sam


@torch.no_grad()
def test_one_stands_behind_the_attention_and_one_beside_the_mlp():
    encoder = tiny_sam(attention=True).image_encoder
    add_bottlenecks(encoder, 4)
    block, x = encoder.blocks[0], torch.randn(1, 8, 8, 32)
    for layer in (block.attn, block.mlp):
        plain = layer(x)
        nn.init.constant_(layer.bottleneck.up.bias, 0.5)
        added = layer(x) - plain
        torch.testing.assert_close(added, torch.full_like(x, 0.5 if layer is block.attn else 0.5 * BESIDE))
        nn.init.normal_(layer.bottleneck.up.weight)
        expected = plain + layer.bottleneck(plain) if layer is block.attn else plain + BESIDE * layer.bottleneck(x)
        torch.testing.assert_close(layer(x), expected)


def test_it_fits_mobile_sams_encoder_too():
    encoder = TinyViT()
    names = add_bottlenecks(encoder, 8)
    blocks = sum(hasattr(module, "attn") and hasattr(module, "mlp") for module in encoder.modules())
    assert len(names) == 8 * blocks > 0  # two layers with weight and bias, twice


@pytest.mark.parametrize(
    ("rank", "wanted"),
    [(0, "rank is 0, wanted a whole number above 0"), (True, "rank is True")],
)
def test_a_width_that_can_not_be_is_refused(rank, wanted):
    encoder = tiny_sam(attention=True).image_encoder
    before = set(encoder.state_dict())
    with pytest.raises(InputError, match=wanted):
        add_bottlenecks(encoder, rank)
    assert set(encoder.state_dict()) == before


def test_an_encoder_without_attention_and_a_second_time_are_refused():
    with pytest.raises(InputError, match="found no block with attn and mlp in TinyEncoder"):
        add_bottlenecks(tiny_sam().image_encoder, 4)
    encoder = tiny_sam(attention=True).image_encoder
    add_bottlenecks(encoder, 4)
    with pytest.raises(InputError, match="wanted an encoder without any"):
        add_bottlenecks(encoder, 4)
