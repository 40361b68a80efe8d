from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from common.errors import InputError
from common.sam.features.volume import crop_padding, encode_volume, spaced_slices
from common.sam.members.preprocessing import Preprocessing

STRIDE = 8


class PoolEncoder(nn.Module):
    """Stands for an encoder: the mean of every STRIDE x STRIDE patch, a channel of ones, and what it was given."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.seen = image
        mean = F.avg_pool2d(image[:, :1], STRIDE)
        return torch.cat([mean, torch.ones_like(mean)], dim=1)


def encode(image: torch.Tensor, size: int = 32, **options) -> torch.Tensor:
    return encode_volume(PoolEncoder(), image, preprocessing=Preprocessing(size), amp=False, **options)


@pytest.mark.parametrize("axis, shape", [(-1, (2, 2, 4, 2, 5)), (-2, (2, 2, 4, 16, 1)), (2, (2, 2, 32, 4, 1))])
def test_slices_lie_where_they_lay(axis, shape) -> None:
    assert encode(torch.zeros(2, 1, 32, 16, 5), slice_axis=axis).shape == shape


def test_every_slice_and_batch_item_keeps_its_place() -> None:
    image = torch.arange(10.0).view(2, 1, 1, 1, 5).expand(2, 1, 32, 32, 5) / 10
    found = encode(image, batch_size=3)
    torch.testing.assert_close(found[:, 0, 1, 2], image[:, 0, 0, 0])
    torch.testing.assert_close(found, encode(image))


@pytest.mark.parametrize("height, width", [(32, 16), (32, 19), (13, 32), (64, 41), (20, 27)])
def test_features_align_with_the_image(height, width) -> None:
    row = (torch.arange(height) + 0.5) / height
    column = (torch.arange(width) + 0.5) / width
    image = (row[:, None] + 10 * column).view(1, 1, height, width, 1) / 11
    found = encode(image)[0, 0, ..., 0] * 11
    rows, columns = found.shape
    scale = 32 / max(height, width)
    assert (rows, columns) == (round(height * scale / STRIDE), round(width * scale / STRIDE))
    wanted = ((torch.arange(rows) + 0.5) / rows)[:, None] + 10 * (torch.arange(columns) + 0.5) / columns
    inner = (slice(0, max(1, rows - 1)), slice(0, max(1, columns - 1)))
    # the last token can hold padding: there only the others are exact
    assert (found - wanted)[inner].abs().max() < 0.25


def test_nothing_of_the_padding_is_left() -> None:
    image = torch.ones(1, 1, 32, 16, 1)
    assert encode(image)[:, 0].eq(1).all()


def test_crop_on_a_token_edge_is_exact() -> None:
    feature = torch.rand(2, 3, 8, 8)
    assert crop_padding(feature, (0.5, 1.0)).equal(feature[:, :, :4])
    assert crop_padding(feature, (1.0, 0.01)).shape == (2, 3, 8, 1)


@pytest.mark.parametrize(
    "depth, count, wanted", [(5, None, [0, 1, 2, 3, 4]), (5, 9, [0, 1, 2, 3, 4]), (9, 3, [1, 4, 7]), (8, 1, [4])]
)
def test_evenly_spaced_slices(depth, count, wanted) -> None:
    assert spaced_slices(depth, count).tolist() == wanted


def test_slices_are_chosen_before_they_are_encoded() -> None:
    image = torch.arange(9.0).view(1, 1, 1, 1, 9).expand(1, 1, 32, 32, 9) / 10
    found = encode(image, slices=3, batch_size=8)
    torch.testing.assert_close(found[0, 0, 0, 0], torch.tensor([0.1, 0.4, 0.7]))


def test_amp_is_of_the_encoder_and_features_are_float32() -> None:
    encoder = nn.Conv2d(3, 2, 8, 8).requires_grad_(False)
    image, prepare = torch.rand(1, 1, 32, 32, 2), Preprocessing(32)
    exact = encode_volume(encoder, image, preprocessing=prepare, amp=False)
    rounded = encode_volume(encoder, image, preprocessing=prepare, amp=True)
    assert exact.dtype == rounded.dtype == torch.float32 and not exact.requires_grad
    assert not exact.equal(rounded)
    torch.testing.assert_close(exact, rounded, atol=0.02, rtol=0.02)


@pytest.mark.parametrize(
    "image", [torch.zeros(1, 2, 4, 4, 4), torch.zeros(1, 4, 4, 4), torch.zeros(1, 1, 4, 4, 4).int()]
)
def test_other_images_are_refused(image) -> None:
    with pytest.raises(InputError, match=r"wanted floating point \[B, 1, H, W, D\]"):
        encode(image)


def test_other_arguments_are_refused() -> None:
    image = torch.zeros(1, 1, 8, 8, 2)
    with pytest.raises(InputError, match="slice_axis 1"):
        encode(image, slice_axis=1)
    with pytest.raises(InputError, match="slices: found 0"):
        encode(image, slices=0)
    with pytest.raises(InputError, match="without preprocessing"):
        encode_volume(PoolEncoder(), image)


class ThreeChannels(nn.Module):
    """The mean of each of the three channels."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(image, STRIDE)


@pytest.mark.parametrize("axis", [-1, -2, -3])
def test_neighbouring_slices_as_channels(axis) -> None:
    image = (torch.arange(6.0) / 10).view(6, 1, 1).expand(6, 32, 32).movedim(0, axis)[None, None]
    options = {"slice_axis": axis, "preprocessing": Preprocessing(32), "amp": False}
    found = encode_volume(ThreeChannels(), image, **options, context=2)[0].movedim(axis, 0)[:, :, 1, 1]
    wanted = torch.tensor([[0, 0, 2], [0, 1, 3], [0, 2, 4], [1, 3, 5], [2, 4, 5], [3, 5, 5]]) / 10
    torch.testing.assert_close(found, wanted)
    # the neighbours are those of the volume, also where only some slices are encoded
    some = encode_volume(ThreeChannels(), image, **options, context=2, slices=[1, 4])[0].movedim(axis, 0)[:, :, 1, 1]
    torch.testing.assert_close(some, wanted[[1, 4]])
    grey = encode_volume(ThreeChannels(), image, **options)[0].movedim(axis, 0)[:, :, 1, 1]
    torch.testing.assert_close(grey, wanted[:, 1:2].expand(-1, 3))


def test_batch_items_keep_their_own_neighbours() -> None:
    image = torch.rand(2, 1, 32, 32, 4)
    options = {"preprocessing": Preprocessing(32), "amp": False, "context": 1}
    found = encode_volume(ThreeChannels(), image, **options, batch_size=3)
    torch.testing.assert_close(found[1:], encode_volume(ThreeChannels(), image[1:], **options))


def test_negative_context_is_refused() -> None:
    with pytest.raises(InputError, match="context -1"):
        encode(torch.zeros(1, 1, 8, 8, 2), context=-1)


def test_another_function_than_the_image_encoder_can_be_asked() -> None:
    image = torch.rand(1, 1, 32, 32, 2)
    found = encode(image, encoder=lambda x: F.avg_pool2d(x[:, :1], STRIDE) + 1)
    torch.testing.assert_close(found, encode(image)[:, :1] + 1)
