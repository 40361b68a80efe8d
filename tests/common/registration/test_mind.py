from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from common.registration.mind import PAIRS, mind


@pytest.fixture
def image():
    noise = torch.rand(2, 1, 14, 12, 10, generator=torch.Generator().manual_seed(0))
    return F.avg_pool3d(noise, 3, stride=1, padding=1, count_include_pad=False)


def test_twelve_pairs_that_are_no_opposites():
    assert len(PAIRS) == 12
    assert all(tuple(-step for step in a) != b for a, b in PAIRS)


def test_contrast_does_not_matter(image):
    found = mind(image)
    assert found.shape == (2, 12, 14, 12, 10) and found.min() >= 0 and found.max() <= 1
    torch.testing.assert_close(found, mind(0.7 - 0.4 * image), rtol=0, atol=1e-4)


def test_it_moves_with_the_image(image):
    moved = mind(image.roll(2, dims=2))
    torch.testing.assert_close(moved[:, :, 7:-5], mind(image)[:, :, 5:-7], rtol=0.05, atol=0.02)


def test_a_case_has_no_say_in_another(image):
    alone = mind(image[:1])
    torch.testing.assert_close(mind(torch.cat([image[:1], 9 * image[1:]]))[:1], alone)


def test_where_nothing_differs_it_is_one():
    assert (mind(torch.full((1, 1, 8, 8, 8), 0.3)) == 1).all()
