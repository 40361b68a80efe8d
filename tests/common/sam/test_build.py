from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from common.errors import InputError
from common.sam.build import build_sam
from common.sam.members.family import FAMILY
from common.sam.members.position_tables import resize_position_tables
from common.sam.members.record import SliceMember
from common.sam.weights.known import KNOWN_WEIGHTS
from support.networks.tiny_sam import tiny_sam


@pytest.fixture
def lite_file(tmp_path, monkeypatch):
    """Random LiteMedSAM weights as a file, its sha256 taken as unknown."""
    monkeypatch.setitem(KNOWN_WEIGHTS, "lite_medsam", replace(KNOWN_WEIGHTS["lite_medsam"], sha256=None))
    torch.manual_seed(0)
    tensors = build_sam("lite_medsam", pretrained=False).state_dict()

    def save(change=lambda tensors: None):
        change(tensors)
        torch.save(tensors, tmp_path / "lite.pth")
        return tmp_path / "lite.pth"

    return save


@pytest.mark.parametrize("name", [name for name, member in FAMILY.items() if isinstance(member, SliceMember)])
def test_every_member_is_built_with_fitting_parts(name) -> None:
    with torch.device("meta"):
        sam = build_sam(name, pretrained=False)
        size = sam.preprocessing.image_size
        tokens = size // sam.stride
        assert sam.prompt_encoder.image_embedding_size == (tokens, tokens)
        assert sam.prompt_encoder.input_image_size == (size, size)
        if name in ("lite_medsam", "mobile_sam", "efficient_sam_ti"):
            assert sam.image_encoder(torch.empty(1, 3, size, size)).shape == (1, 256, tokens, tokens)
    if not name.startswith("efficient_sam"):
        assert sum(p.numel() for p in sam.prompt_encoder.parameters()) == 6220
        assert sum(p.numel() for p in sam.mask_decoder.parameters()) == 4058340


def test_sam_b_encoder_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        sam = build_sam("sam_vit_b", pretrained=False)
    assert sum(p.numel() for p in sam.image_encoder.parameters()) == 89_670_912


def test_frozen_and_in_eval_mode_whatever_its_owner_does(lite_file) -> None:
    sam = build_sam("lite_medsam", lite_file(), image_size=64)
    torch.nn.ModuleList([sam]).train()
    assert not any(module.training for module in sam.modules())
    assert not any(parameter.requires_grad for parameter in sam.parameters())


def test_tiny_vit_loads_the_same_weights_at_another_size(lite_file) -> None:
    path = lite_file()
    sam = build_sam("lite_medsam", path, image_size=64)
    assert sam.preprocessing.image_size == 64
    assert all(value.equal(sam.state_dict()[name]) for name, value in torch.load(path, weights_only=True).items())
    assert sam.image_encoder(torch.rand(1, 3, 64, 64)).shape == (1, 256, 16, 16)


def test_missing_unexpected_and_wrong_shaped_tensors_are_listed(lite_file) -> None:
    def change(tensors):
        del tensors["image_encoder.neck.0.weight"]
        tensors["image_encoder.head.weight"] = torch.ones(3)
        tensors["mask_decoder.iou_token.weight"] = torch.ones(2, 256)

    path = lite_file(change)
    with pytest.raises(InputError) as error:
        build_sam("lite_medsam", path)
    missing, unexpected, shapes = error.value.problems
    assert all(line.startswith(f"{path}: 1 ") for line in error.value.problems)
    assert missing.endswith("missing tensors: image_encoder.neck.0.weight")
    assert unexpected.endswith("unexpected tensors: image_encoder.head.weight")
    assert shapes.endswith("mask_decoder.iou_token.weight found (2, 256) wanted (1, 256)")


def test_bad_name_size_and_file(tmp_path) -> None:
    with pytest.raises(InputError, match="found 'sam', wanted one of mobile_sam"):
        build_sam("sam")
    with pytest.raises(InputError, match=r"found 'sam_med3d', wanted one of mobile_sam, .*efficient_sam_s$"):
        build_sam("sam_med3d")
    for size in (250, 0, -16, 224.0):
        with pytest.raises(InputError, match="wanted a positive multiple of 16"):
            build_sam("mobile_sam", image_size=size, pretrained=False)
    (tmp_path / "mobile_sam.pt").write_bytes(b"something else")
    with pytest.raises(InputError, match="found sha256"):
        build_sam("mobile_sam", tmp_path / "mobile_sam.pt")


def test_only_tables_that_depend_on_the_image_size_are_resized() -> None:
    with torch.device("meta"):
        published = build_sam("sam_vit_b", pretrained=False).state_dict()
        sam = build_sam("sam_vit_b", image_size=256, pretrained=False)
    window = "image_encoder.blocks.0.attn.rel_pos_h"
    tensors = {name: torch.rand(value.shape) for name, value in published.items() if "pos" in name}
    tensors[window] = torch.rand(127, 64)  # a wrong file: window tables always have 27 rows
    resized = resize_position_tables(tensors, sam)
    changed = {name for name in tensors if resized[name] is not tensors[name]}
    tables = {f"image_encoder.blocks.{block}.attn.rel_pos_{axis}" for block in (2, 5, 8, 11) for axis in "hw"}
    assert changed == tables | {"image_encoder.pos_embed"}
    assert resized["image_encoder.pos_embed"].shape == (1, 16, 16, 768)
    assert resized["image_encoder.blocks.2.attn.rel_pos_h"].shape == (31, 64)
    assert resized[window].shape == (127, 64)


@torch.no_grad()
def test_a_dense_prompt_takes_the_place_of_the_prompt_encoders() -> None:
    sam, embedding = tiny_sam(), torch.randn(2, 32, 8, 8)
    boxes = torch.tensor([[4.0, 4, 40, 40], [10, 8, 60, 50]])
    own = sam.prompt_encoder.no_mask_embed.weight.view(1, -1, 1, 1).expand(2, -1, 8, 8)
    assert sam.decode(embedding, boxes=boxes, dense=own).equal(sam.decode(embedding, boxes=boxes))
    other = sam.decode(embedding, boxes=boxes, dense=own + 1)
    torch.testing.assert_close(other, sam.decode(embedding + 1, boxes=boxes), atol=1e-4, rtol=0)
    masks = torch.randn(2, 1, *sam.prompt_encoder.mask_input_size)
    assert sam.decode(embedding, boxes=boxes, masks=masks, dense=own + 1).equal(other)
