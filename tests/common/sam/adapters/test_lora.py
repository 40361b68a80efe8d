from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from common.errors import InputError
from common.sam.adapters.lora import PARTS, add_lora, folded_lora, lora_layers, lora_parameters
from common.sam.build import build_sam
from common.sam.members.efficient_sam import Attention, EfficientViT
from common.sam.members.samus import SamusEncoder
from common.sam.members.segment_anything_import import load_segment_anything
from common.sam.members.tiny_vit import TinyViT, WindowAttention
from support.networks.tiny_sam import tiny_sam

TINY_VIT = partial(TinyViT, channels=(8, 8, 12, 16), depths=(1, 1, 2, 1), heads=(1, 2, 3, 2), outputs=10)
ENCODERS = {
    "sam_vit": lambda: tiny_sam(attention=True).image_encoder,
    "tiny_vit": TINY_VIT,
    "efficient_sam": lambda: EfficientViT(24, 3, depth=2, outputs=10),
    "samus": lambda: SamusEncoder(channels=48, outputs=8),
}
KINDS = ("sam_vit", "tiny_vit", "efficient_sam")


def make_encoder(kind: str) -> nn.Module:
    torch.manual_seed(0)
    return ENCODERS[kind]().eval().requires_grad_(False)


def image_for(kind: str) -> Tensor:
    side = 256 if kind == "samus" else 64
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1))


def train_a_bit(encoder: nn.Module) -> None:
    """Give the adapters values as training would."""
    own = dict(encoder.named_parameters())
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name in lora_parameters(encoder):
            own[name].copy_(torch.randn(own[name].shape, generator=generator) * 0.3)


@pytest.mark.parametrize("kind", ENCODERS)
def test_same_output_at_first_another_once_trained_and_the_same_when_merged(kind) -> None:
    encoder, image = make_encoder(kind), image_for(kind)
    before, names = encoder(image), set(encoder.state_dict())
    new = add_lora(encoder, rank=2)
    assert encoder(image).equal(before)
    assert set(encoder.state_dict()) == names | set(new) and not names & set(new)
    train_a_bit(encoder)
    trained = encoder(image).detach()
    assert (trained - before).abs().max() > 1e-3
    plain = make_encoder(kind)
    plain.load_state_dict({**plain.state_dict(), **folded_lora(encoder)})
    torch.testing.assert_close(plain(image), trained, atol=1e-5, rtol=1e-5)


def attention_of(kind: str) -> nn.Module:
    torch.manual_seed(0)
    if kind == "tiny_vit":
        attention = WindowAttention(12, 3, 4)
        attention.norm = nn.Identity()  # it would move the channel that is to be equal in all tokens
        nn.init.normal_(attention.attention_biases)
    elif kind == "efficient_sam":
        attention = Attention(12, 3)
    else:
        attention = load_segment_anything().image_encoder.Attention(12, 3, use_rel_pos=True, input_size=(4, 4))
        nn.init.normal_(attention.rel_pos_h)
        nn.init.normal_(attention.rel_pos_w)
    return attention


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", PARTS)
def test_each_adapter_reaches_its_part_of_the_fused_layer_and_no_other(kind, part) -> None:
    """What attention does with a shift that is equal in all tokens tells q, k and v apart.

    Equal shifts of all keys cancel in the softmax; an equal shift of all values comes out behind `proj`, head by head;
    a shift of the queries changes the weights of the keys.
    """
    attention = attention_of(kind)
    tokens = torch.randn(2, 16, 12)
    tokens[..., 0] = 1  # the channel that the adapter reads
    tokens = tokens.unflatten(1, (4, 4)) if kind == "sam_vit" else tokens
    with torch.no_grad():
        before = attention(tokens)
        add_lora(attention, rank=1, targets=[part])
        attention.qkv.down[part].copy_(torch.eye(12)[:1])
        shift = torch.randn(12)
        attention.qkv.up[part].copy_(shift[:, None])
        change = attention(tokens) - before
        if part == "k":
            torch.testing.assert_close(change, torch.zeros_like(change), atol=1e-6, rtol=0)
        elif part == "v":
            expected = (attention.proj.weight @ shift).expand_as(change)
            torch.testing.assert_close(change, expected, atol=1e-6, rtol=1e-5)
        else:
            # the weights of the keys changed: other outputs, and where all values are equal none
            assert change.abs().max() > 1e-2
            equal = torch.ones_like(tokens)
            quiet = attention(equal)
            attention.qkv.up[part].zero_()
            torch.testing.assert_close(attention(equal), quiet, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("targets", [("q", "v"), ["v", "q"], ("q", "k", "v")])
def test_several_targets_are_the_sum_of_each(targets) -> None:
    attention = attention_of("tiny_vit")
    layer, x = attention.qkv, torch.randn(5, 12)
    add_lora(attention, rank=3, alpha=6, targets=targets)
    train_a_bit(attention)
    adapted = attention.qkv
    with torch.no_grad():
        q, k, v = (adapted(x) - layer(x)).view(5, 3, 3, 4).unbind(2)  # per head q, k, v of 4 channels
        for part, change in zip(PARTS, (q, k, v), strict=True):
            wanted = torch.zeros(5, 12)
            if part in targets:
                wanted = 6 / 3 * x @ adapted.down[part].T @ adapted.up[part].T
            torch.testing.assert_close(change.flatten(1), wanted, atol=1e-5, rtol=1e-4)


def test_gradients_reach_the_adapters_alone() -> None:
    encoder, image = make_encoder("tiny_vit"), image_for("tiny_vit")
    new = add_lora(encoder, rank=2)
    assert {name for name, value in encoder.named_parameters() if value.requires_grad} == set(new)
    own = dict(encoder.named_parameters())
    optimizer = torch.optim.SGD([own[name] for name in new], 0.1)
    for step in range(2):
        optimizer.zero_grad()
        encoder(image).square().mean().backward()
        optimizer.step()
        ups = [own[name].grad.abs().max() > 0 for name in new if ".up." in name]
        downs = [own[name].grad.abs().max() > 0 for name in new if ".down." in name]
        # A learns from the second step on, when B is no longer zero
        assert all(ups) and all(downs) == (step == 1) and any(downs) == (step == 1)
    assert not [name for name, value in own.items() if name not in new and value.grad is not None]


@pytest.mark.parametrize("name, layers, parameters", [("sam_vit_b", 12, 294_912), ("samus", 12, 294_912)])
def test_published_encoders_and_their_names(name, layers, parameters) -> None:
    with torch.device("meta"):
        sam = build_sam(name, pretrained=False)
        published = set(sam.state_dict())
        new = add_lora(sam.image_encoder, rank=8)
        own = dict(sam.image_encoder.named_parameters())
    assert len(lora_layers(sam)) == layers and len(new) == 4 * layers
    assert sum(own[each].numel() for each in new) == parameters
    assert lora_parameters(sam) == [f"image_encoder.{each}" for each in new]
    assert set(sam.state_dict()) - published == set(lora_parameters(sam)) and published <= set(sam.state_dict())


@pytest.mark.parametrize("name, layers", [("lite_medsam", 10), ("mobile_sam", 10), ("efficient_sam_s", 12)])
def test_the_light_members(name, layers) -> None:
    with torch.device("meta"):
        sam = build_sam(name, pretrained=False)
        new = add_lora(sam.image_encoder, rank=4)
        assert sam.image_encoder(torch.empty(1, 3, 128, 128)).shape[:2] == (1, 256)
    assert len(lora_layers(sam)) == layers and len(new) == 4 * layers


def test_under_bfloat16_autocast() -> None:
    encoder, image = make_encoder("tiny_vit"), image_for("tiny_vit")
    with torch.autocast("cpu", torch.bfloat16):
        before = encoder(image)
        add_lora(encoder, rank=2)
        assert encoder(image).equal(before) and before.dtype == torch.bfloat16


def test_adapters_take_device_type_and_mode_and_the_random_state_decides() -> None:
    def drawn(seed: int) -> Tensor:
        encoder = make_encoder("tiny_vit").double()
        torch.manual_seed(seed)
        add_lora(encoder, rank=2)
        (layer, *_) = lora_layers(encoder).values()
        assert layer.up["q"].dtype == torch.float64 and layer.weight.dtype == torch.float64
        return layer.down["q"].detach()

    assert drawn(3).equal(drawn(3)) and not drawn(3).equal(drawn(4))


class OtherAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(4, 12)


@pytest.mark.parametrize("options, problem", [
    ({"rank": 0}, "rank is 0, wanted a whole number above 0"),
    ({"rank": 2.0}, "rank is 2.0, wanted a whole number"),
    ({"rank": 9}, "rank is 9, wanted at most the 8 channels of layers.1.blocks.0.attn.qkv"),
    ({"alpha": 0}, "alpha is 0, wanted a number above 0"),
    ({"alpha": float("nan")}, "alpha is nan, wanted a number above 0"),
    ({"targets": "qv"}, "targets are 'qv', wanted a list"),
    ({"targets": ["q", "w"]}, "targets are .*, wanted a list of some of q, k and v"),
    ({"targets": []}, "targets are .*, wanted a list"),
])  # fmt: skip
def test_bad_settings(options, problem) -> None:
    encoder = make_encoder("tiny_vit")
    with pytest.raises(InputError, match=problem):
        add_lora(encoder, **options)
    assert not lora_parameters(encoder)


def test_what_can_take_no_adapters() -> None:
    with pytest.raises(InputError, match="found no attention with a fused qkv in TinyEncoder"):
        add_lora(tiny_sam().image_encoder)
    # a known attention beside an unknown one stays as it is
    mixed = nn.ModuleDict({"known": WindowAttention(8, 2, 2), "other": OtherAttention()})
    with pytest.raises(InputError, match=r"other\.qkv is of OtherAttention; wanted an attention of"):
        add_lora(mixed, rank=1)
    assert not lora_parameters(mixed)
    encoder = make_encoder("efficient_sam")
    add_lora(encoder, rank=2)
    with pytest.raises(InputError, match=r"found adapters of rank 2 at blocks\.0\.attn\.qkv, wanted a plain layer"):
        add_lora(encoder, rank=3)
    assert {(layer.rank, layer.scale) for layer in lora_layers(encoder).values()} == {(2, 1)}


def test_without_adapters_there_is_nothing_to_fold() -> None:
    assert folded_lora(make_encoder("efficient_sam")) == {}
