from __future__ import annotations

import pytest
import torch

from common.sam.members.tiny_vit import TinyViT, TransformerBlock, WindowAttention


def small(**options) -> TinyViT:
    torch.manual_seed(0)
    sizes = {"channels": (8, 8, 12, 16), "depths": (1, 1, 1, 1), "heads": (1, 2, 3, 2), "outputs": 10}
    return TinyViT(**sizes, **options).eval()


@pytest.mark.parametrize("height, width", [(64, 64), (128, 48), (100, 37)])
def test_any_input_size_at_both_strides(height, width) -> None:
    image = torch.rand(1, 3, height, width)
    with torch.no_grad():
        assert small()(image).shape == (1, 10, -(-height // 16), -(-width // 16))
        assert small(patch_kernel=1, patch_stride=1)(image).shape == (1, 10, -(-height // 4), -(-width // 4))


def test_parameter_counts_of_the_published_encoders() -> None:
    with torch.device("meta"):
        mobile, lite = TinyViT(num_classes=1000), TinyViT(patch_kernel=1, patch_stride=1)
    count = [sum(p.numel() for p in model.parameters()) for model in (mobile, lite)]
    # whole checkpoints less SAM's prompt encoder (6,220) and mask decoder (4,058,340)
    assert count == [10_130_092 - 4_064_560, 9_791_300 - 4_064_560]
    assert "head.weight" in mobile.state_dict() and "head.weight" not in lite.state_dict()
    assert not [name for name in lite.state_dict() if "idxs" in name]


def test_bias_belongs_to_the_absolute_offset() -> None:
    attention = WindowAttention(4, 1, 3)
    offset = attention.attention_bias_idxs
    assert offset.shape == (9, 9)
    # token 1 is row 0 column 1, token 6 is row 2 column 0: |dy| = 2, |dx| = 1
    assert offset[1, 6] == offset[6, 1] == 2 * 3 + 1
    assert offset.diagonal().eq(0).all()


@pytest.mark.parametrize("size", [8, 7])
def test_attention_stays_inside_its_window(size) -> None:
    """Windows start at the top left; 7 is padded at the bottom and right."""
    torch.manual_seed(0)
    block = TransformerBlock(4, 2, 4).eval()
    image = torch.rand(1, 4, size, size)
    changed = image.clone()
    changed[:, 0, 3, 3] += 5
    with torch.no_grad():
        difference = (block._attend(image) - block._attend(changed)).abs().amax((0, 1)) > 0
    assert difference[:4, :4].sum() > 8
    assert not difference[4:].any() and not difference[:, 4:].any()


def test_a_batch_is_the_images_one_by_one() -> None:
    model, images = small(), torch.rand(2, 3, 48, 48)
    with torch.no_grad():
        single = torch.cat([model(images[:1]), model(images[1:])])
        torch.testing.assert_close(model(images), single, rtol=1e-4, atol=1e-5)
