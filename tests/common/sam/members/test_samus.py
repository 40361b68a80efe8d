from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from common.errors import InputError
from common.files.tensor_files import load_strictly
from common.sam.build import SamModel, build_sam
from common.sam.members import family
from common.sam.members.samus import GLOBAL_BLOCKS, HEADS, GlobalBlock, SamusEncoder, is_added, samus_tensors

NAMES = Path(__file__).parents[5] / "shared" / "specs" / "state_dicts" / "samus_state_dict.txt"
SMALL = partial(SamusEncoder, channels=48, outputs=8)


@pytest.fixture(scope="module")
def encoder() -> SamusEncoder:
    torch.manual_seed(0)
    return SMALL().requires_grad_(False)


@pytest.fixture
def small(monkeypatch) -> SamModel:
    monkeypatch.setattr(family, "SamusEncoder", SMALL)
    return build_sam("samus", pretrained=False)


def sam_like(small: SamModel) -> dict[str, torch.Tensor]:
    """What a checkpoint of SAM would say of `small`: nothing of the adapters, tables for 64x64 tokens."""
    tensors = {name: torch.rand(value.shape) for name, value in small.state_dict().items() if not is_added(name)}
    for index in GLOBAL_BLOCKS:
        for axis in "hw":
            tensors[f"image_encoder.blocks.{index}.attn.rel_pos_{axis}"] = torch.rand(127, 4)
    return tensors


def test_names_and_shapes_are_the_published_ones() -> None:
    if not NAMES.is_file():
        pytest.skip(f"no list of names at {NAMES}")
    rows = [line.split("\t") for line in NAMES.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    wanted = {row[0]: row[1] for row in rows}
    with torch.device("meta"):
        found = {
            name: str(tuple(value.shape)) for name, value in build_sam("samus", pretrained=False).state_dict().items()
        }
    assert {name: shape for name, shape in wanted.items() if name not in HEADS} == found


def test_features_and_embedding(encoder) -> None:
    image = torch.rand(2, 3, 256, 256)
    features = encoder.features(image)
    assert features.shape == (2, 48, 32, 32)
    assert encoder(image).equal(encoder.neck(features))
    # a slice is the same whatever else is in the batch
    torch.testing.assert_close(encoder.features(image[1:]), features[1:], atol=1e-5, rtol=1e-4)


def test_one_channel_is_repeated(encoder) -> None:
    image = torch.rand(1, 1, 256, 256)
    assert encoder(image).equal(encoder(image.repeat(1, 3, 1, 1)))


def test_the_branch_reaches_the_tokens_through_the_global_blocks(encoder) -> None:
    block = next(block for block in encoder.blocks if isinstance(block, GlobalBlock))
    tokens, branch = torch.rand(1, 32, 32, 48), torch.rand(1, 32, 32, 48)
    found, refined = block(tokens, branch)
    other, _ = block(tokens, branch.flip(0, 1) + 1)
    assert found.shape == refined.shape == tokens.shape
    assert not torch.allclose(found, other)
    assert [index for index, block in enumerate(encoder.blocks) if block.window_size == 0] == list(GLOBAL_BLOCKS)


def test_a_checkpoint_of_sam_leaves_79_tensors_as_they_are(small, tmp_path) -> None:
    tensors = sam_like(small)
    before = {name: value.clone() for name, value in small.state_dict().items()}
    assert len(before) - len(tensors) == 79
    torch.save(tensors, tmp_path / "sam.pth")
    after = build_sam("samus", tmp_path / "sam.pth").state_dict()
    for name, value in after.items():
        if is_added(name):
            assert value.equal(before[name]), name
        elif name in tensors and tensors[name].shape == value.shape:
            assert value.equal(tensors[name]), name
    table = tensors["image_encoder.blocks.5.attn.rel_pos_h"]
    wanted = nn.functional.interpolate(table.T[None], 63, mode="linear", align_corners=False)[0].T
    assert after["image_encoder.blocks.5.attn.rel_pos_h"].equal(wanted)
    assert after["image_encoder.blocks.1.attn.rel_pos_h"].shape == (27, 4)


def test_a_whole_sam_vit_b_is_understood() -> None:
    with torch.device("meta"):
        sam, samus = build_sam("sam_vit_b", pretrained=False), build_sam("samus", pretrained=False)
        found = samus_tensors(sam.state_dict(), samus)
    wanted = {name: value.shape for name, value in samus.state_dict().items()}
    assert {name: value.shape for name, value in found.items()} == wanted


def test_heads_of_weakmedsam_are_left_out_and_a_truncated_samus_is_refused(small) -> None:
    tensors = {name: torch.rand(value.shape) for name, value in small.state_dict().items()}
    heads = {"parent_fc.weight": torch.rand(3, 48, 1, 1), "child_fc.weight": torch.rand(7, 48, 1, 1)}
    load_strictly(small, samus_tensors(tensors | heads, small), "samus")
    assert all(value.equal(tensors[name]) for name, value in small.state_dict().items())
    del tensors["image_encoder.blocks.8.MLP_Adapter.D_fc1.bias"]
    with pytest.raises(InputError, match=r"1 missing tensors: image_encoder\.blocks\.8\.MLP_Adapter\.D_fc1\.bias"):
        load_strictly(small, samus_tensors(tensors, small), "samus")


def test_what_sam_does_not_say_is_the_same_in_every_run(small) -> None:
    torch.manual_seed(3)
    again = build_sam("samus", pretrained=False)
    rest = torch.rand(1)
    name = "image_encoder.blocks.2.Space_Adapter.q.weight"
    assert again.state_dict()[name].equal(small.state_dict()[name])
    torch.manual_seed(4)
    build_sam("samus", pretrained=False)
    assert not torch.rand(1).equal(rest)  # nobody else's numbers are fixed by it


def test_only_256_pixels(small) -> None:
    with pytest.raises(InputError, match="samus: image_size is 512, wanted 256, its only one"):
        build_sam("samus", image_size=512, pretrained=False)
    assert small.preprocessing.resized_size(30, 60) == (256, 256)
