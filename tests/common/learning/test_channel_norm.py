from __future__ import annotations

import torch

from common.learning.channel_norm import ChannelNorm


def test_channels_of_images_and_volumes_are_normalised_place_by_place():
    norm = ChannelNorm(6)
    for size in ((4, 5), (3, 4, 5)):
        x = 3 + 5 * torch.randn(2, 6, *size, generator=torch.Generator().manual_seed(0))
        found = norm(x)
        assert found.shape == x.shape
        torch.testing.assert_close(found, norm(x * 2 + 1), atol=1e-4, rtol=0)
        torch.testing.assert_close(found.mean(1), torch.zeros(2, *size), atol=1e-5, rtol=0)
        torch.testing.assert_close(found.var(1, unbiased=False), torch.ones(2, *size), atol=1e-3, rtol=0)
