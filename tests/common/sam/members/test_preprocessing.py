from __future__ import annotations

import torch

from common.sam.members.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing


def test_longest_side_and_zero_padding_after_normalisation() -> None:
    prepare = Preprocessing(32, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    assert prepare.resized_size(10, 40) == (8, 32)
    image = prepare(torch.full((2, 1, 10, 40), 0.5))
    assert image.shape == (2, 3, 32, 32)
    wanted = (127.5 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
    torch.testing.assert_close(image[0, :, :8].mean((1, 2)), wanted)
    assert image[:, :, 8:].eq(0).all()


def test_min_max_is_of_each_slice_and_a_constant_slice_is_zero() -> None:
    slices = torch.stack([torch.linspace(0.2, 0.4, 16).view(1, 4, 4), torch.full((1, 4, 4), 0.7)])
    image = Preprocessing(4, min_max=True)(slices)
    assert image[0].min() == 0 and image[0].max() == 1
    assert image[1].eq(0).all()
    assert image[:, 0].equal(image[:, 1]) and image[:, 0].equal(image[:, 2])


def test_stretched_to_a_square_where_the_authors_did_so() -> None:
    prepare = Preprocessing(16, min_max=True, keep_aspect=False)
    assert prepare.resized_size(5, 40) == (16, 16)
    assert prepare(torch.rand(1, 1, 5, 40)).shape == (1, 3, 16, 16)


def test_a_slice_and_its_neighbours_are_scaled_together() -> None:
    image = Preprocessing(4, min_max=True)(torch.tensor([0.2, 0.3, 0.6]).view(1, 3, 1, 1).expand(1, 3, 4, 4))
    torch.testing.assert_close(image[0, :, 0, 0], torch.tensor([0.0, 0.25, 1.0]))
