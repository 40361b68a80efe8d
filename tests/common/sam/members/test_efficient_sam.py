from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from common.sam.build import build_sam
from common.sam.members.efficient_sam import EfficientViT

NAMES = Path(__file__).parents[5] / "shared" / "specs" / "state_dicts"


@pytest.fixture(scope="module")
def encoder() -> EfficientViT:
    torch.manual_seed(0)
    encoder = EfficientViT(24, 3, depth=2, outputs=8).requires_grad_(False)
    encoder.pos_embed.normal_()
    return encoder


@pytest.mark.parametrize("name, file", [("efficient_sam_ti", "vitt"), ("efficient_sam_s", "vits")])
def test_names_and_shapes_are_the_published_ones(name, file) -> None:
    path = NAMES / f"efficientsam_{file}_state_dict.txt"
    if not path.is_file():
        pytest.skip(f"no list of names at {path}")
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    with torch.device("meta"):
        found = build_sam(name, pretrained=False).state_dict().items()
    assert [line.split("\t")[:2] for line in lines] == [[name, str(tuple(value.shape))] for name, value in found]


@pytest.mark.parametrize("name, total, blocks", [("ti", 10_223_204, 5_338_368), ("s", 26_413_028, 21_293_568)])
def test_parameter_counts_of_the_published_models(name, total, blocks) -> None:
    with torch.device("meta"):
        sam = build_sam(f"efficient_sam_{name}", pretrained=False)
    assert sum(p.numel() for p in sam.image_encoder.blocks.parameters()) == blocks
    assert sum(p.numel() for p in sam.parameters()) == total


@pytest.mark.parametrize("height, width", [(224, 224), (64, 96), (512, 512)])
def test_any_input_size(encoder, height, width) -> None:
    image = torch.rand(1, 3, height, width)
    features = encoder.features(image)
    assert features.shape == (1, 24, height // 16, width // 16)
    assert encoder(image).equal(encoder.neck(features))


def test_position_table_is_read_row_by_row_and_without_its_first_entry(encoder) -> None:
    grid = encoder.pos_embed[0, 1:].reshape(14, 14, 24)
    assert encoder._position((14, 14))[0, :, 3, 5].equal(grid[3, 5])
    wanted = F.interpolate(grid.permute(2, 0, 1)[None], (32, 20), mode="bicubic", align_corners=False)
    assert encoder._position((32, 20)).equal(wanted)


def test_a_slice_is_the_same_whatever_else_is_in_the_batch(encoder) -> None:
    image = torch.rand(3, 3, 64, 64)
    torch.testing.assert_close(encoder(image)[1:2], encoder(image[1:2]), atol=1e-5, rtol=1e-4)
