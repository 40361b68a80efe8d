from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from common.errors import InputError
from common.sam.build import SamModel
from common.sam.features.backbone import SliceBackbone, build_backbone
from common.sam.features.volume import encode_volume
from common.sam.members.preprocessing import Preprocessing
from common.sam.members.segment_anything_import import load_segment_anything
from common.sam.weights.known import find_weights


@pytest.fixture(scope="module", params=["mobile_sam", "lite_medsam", "efficient_sam_ti"])
def backbone(request) -> SliceBackbone:
    torch.manual_seed(0)
    return build_backbone(request.param, image_size=64, pretrained=False, amp=False, batch_size=4)


def describe(name: str) -> SliceBackbone:
    with torch.device("meta"):
        return build_backbone(name, pretrained=False)


def tuned_count(backbone: SliceBackbone) -> int:
    return sum(parameter.numel() for parameter in backbone.tune().parameters() if parameter.requires_grad)


@torch.no_grad()
def test_features_and_embedding_of_the_same_slices(backbone) -> None:
    x = torch.rand(2, 3, 64, 64)
    features, embedding = backbone.encode(x)
    tokens = 64 // backbone.sam.stride
    assert features.shape == (2, backbone.feature_channels, tokens, tokens)
    assert embedding.shape == (2, 256, tokens, tokens)
    torch.testing.assert_close(embedding, backbone.image_encoder(x), atol=1e-5, rtol=1e-4)
    assert backbone.image_size == backbone.preprocessing.image_size == 64


@torch.no_grad()
def test_a_volume_gives_both(backbone) -> None:
    volume = torch.rand(1, 1, 48, 40, 3)
    encode = partial(encode_volume, backbone, volume, amp=False, keep_padding=True, context=1)
    embedding, features = (found[0].movedim(-1, 0) for found in (encode(), encode(encoder=backbone.features)))
    assert features.shape[:2] == (3, backbone.feature_channels)
    torch.testing.assert_close(backbone.embed(features), embedding, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_prompts_in_batches_are_those_one_by_one(backbone) -> None:
    embedding, boxes = torch.rand(2, 256, 4, 4), torch.tensor([[[0.0, 0.0, 9.0, 30.0]], [[5.0, 6.0, 40.0, 60.0]]])
    # the tokens of lite_medsam are four times as many
    embedding = nn.functional.interpolate(embedding, (64 // backbone.sam.stride,) * 2)
    kinds = {"boxes": (boxes + torch.arange(3).view(1, 3, 1), backbone.decode_boxes)}
    if backbone.takes_points:
        kinds["points"] = (torch.rand(2, 3, 2) * 60, backbone.decode_points)
    for prompts, decode in kinds.values():
        together = decode(embedding, prompts)
        side = 4 * embedding.shape[-1]
        assert together.shape == (2, 3, side, side) and together.dtype == torch.float32
        for image in range(2):
            for index in range(3):
                alone = decode(embedding[image : image + 1], prompts[image : image + 1, index : index + 1])
                torch.testing.assert_close(together[image, index], alone[0, 0], atol=1e-5, rtol=1e-4)
        assert not together[0, 0].allclose(together[1, 0])


@torch.no_grad()
def test_a_point_is_one_positive_point() -> None:
    torch.manual_seed(0)
    backbone = build_backbone("mobile_sam", image_size=64, pretrained=False, amp=False)
    embedding, point = torch.rand(1, 256, 4, 4), torch.tensor([[[20.0, 41.0]]])
    encoder, decoder = backbone.sam.prompt_encoder, backbone.sam.mask_decoder
    sparse, dense = encoder((point[0][:, None], torch.ones(1, 1)), None, None)
    wanted, _ = decoder(embedding, encoder.get_dense_pe(), sparse, dense, multimask_output=False)
    torch.testing.assert_close(backbone.decode_points(embedding, point), wanted)


def test_points_are_refused_where_they_are_not_understood() -> None:
    for name in ("lite_medsam", "medsam_vit_b"):
        with pytest.raises(InputError, match=f"{name}: found points, wanted boxes"):
            describe(name).decode_points(torch.rand(1, 256, 16, 16), torch.rand(1, 2, 2))


def test_prompts_of_other_shapes_are_refused(backbone) -> None:
    embedding = torch.rand(2, 256, 4, 4)
    for boxes in (torch.rand(1, 3, 4), torch.rand(2, 4), torch.rand(2, 3, 2), torch.rand(2, 0, 4)):
        with pytest.raises(InputError, match=r"wanted \[2, P, 4\]"):
            backbone.decode_boxes(embedding, boxes)


def test_features_of_segment_anything_are_those_before_its_neck() -> None:
    torch.manual_seed(0)
    options = {"embed_dim": 24, "depth": 3, "num_heads": 2, "out_chans": 8, "window_size": 3}
    vit = load_segment_anything().ImageEncoderViT(32, 8, **options, use_rel_pos=True, global_attn_indexes=(1,))
    sam = SamModel(
        "vit", Preprocessing(32), 8, dict.fromkeys(("prompt_encoder", "mask_decoder")) | {"image_encoder": vit}
    )
    backbone = SliceBackbone(sam)
    x = torch.rand(2, 3, 32, 32)
    features, embedding = backbone.encode(x)
    assert features.shape == (2, 24, 4, 4) and backbone.feature_channels == 24
    torch.testing.assert_close(embedding, vit(x))
    assert backbone.trainable_parameters() == []  # no record says which


def test_samus_tunes_what_weakmedsam_tunes() -> None:
    # 68,019,200 in the released code, of which 768 and 9 * 768 are the heads of one class and eight sub-classes
    backbone = describe("samus")
    assert tuned_count(backbone) == 68_019_200 - 10 * 768
    tuned = {name.removeprefix("sam.image_encoder.") for name in backbone.trainable_parameters()}
    assert {"blocks.2.attn.rel_pos_h", "blocks.9.attn.qkv.weight", "input_Adapter.D_fc1.weight"} <= tuned
    assert not {"blocks.3.attn.rel_pos_h", "blocks.2.attn.qkv.weight", "pos_embed", "neck.0.weight"} & tuned


@pytest.mark.parametrize(
    "name, parts",
    [
        ("sam_vit_b", [f"blocks.{index}" for index in (8, 9, 10, 11)]),
        ("efficient_sam_s", [f"blocks.{index}" for index in (8, 9, 10, 11)]),
        ("medsam_vit_b", [f"blocks.{index}" for index in (8, 9, 10, 11)]),
        ("sam_vit_l", [f"blocks.{index}" for index in range(16, 24)]),
        ("sam_vit_h", [f"blocks.{index}" for index in range(21, 32)]),
        ("mobile_sam", ["layers.3"]),
        ("lite_medsam", ["layers.3"]),
    ],
)
def test_others_tune_their_last_blocks(name, parts) -> None:
    backbone = describe(name)
    wanted = sum(p.numel() for part in parts for p in backbone.image_encoder.get_submodule(part).parameters())
    assert tuned_count(backbone) == wanted > 0


def test_frozen_until_tuned_and_in_eval_mode_always(backbone) -> None:
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    statistics = [value.clone() for value in backbone.buffers()]
    x = torch.rand(2, 3, 64, 64)
    assert not backbone.encode(x)[0].requires_grad
    try:
        assert backbone.tune() is backbone
        backbone.train()
        assert not any(module.training for module in backbone.sam.modules())
        backbone.encode(x)[1].square().mean().backward()
        reached = {name for name, parameter in backbone.named_parameters() if parameter.grad is not None}
        assert reached == set(backbone.trainable_parameters())
        assert all(now.equal(before) for now, before in zip(backbone.buffers(), statistics, strict=True))
    finally:
        backbone.tune(False).zero_grad()
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


@torch.no_grad()
def test_mobile_sam_finds_a_disc_from_a_point_or_a_box() -> None:
    try:
        path = find_weights("mobile_sam")
    except InputError as error:
        pytest.skip(str(error))
    backbone = build_backbone("mobile_sam", path, image_size=256, amp=False)
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    disc = (y - 30).square() + (x - 65).square() < 15**2
    _, embedding = backbone.encode(backbone.preprocessing(0.2 + 0.6 * disc.float()[None, None]))
    # row 30, column 65 of 96 in pixels of the encoder's 256
    point = torch.tensor([65.5, 30.5]) * 256 / 96 - 0.5
    box = torch.tensor([50.0, 15.0, 81.0, 46.0]) * 256 / 96 - 0.5
    for logits in (
        backbone.decode_points(embedding, point[None, None]),
        backbone.decode_boxes(embedding, box[None, None]),
    ):
        found = nn.functional.interpolate(logits, (96, 96), mode="bilinear")[0, 0] > 0
        assert (found & disc).sum() / (found | disc).sum() > 0.85
