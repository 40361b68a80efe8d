from __future__ import annotations

import pytest
import torch

from common.imaging.morphology import gaussian_smooth


@pytest.mark.parametrize("sigma", [1.5, [1.5, 1.5, 1.5], [2.0, 1.0, 0.0]])
def test_gaussian_smooth_has_the_deviation_it_is_told(sigma):
    maps = torch.zeros(2, 21, 21, 21)
    maps[:, 10, 10, 10] = torch.tensor([1.0, 3.0])
    smooth = gaussian_smooth(maps, sigma)
    offsets = torch.arange(21.0) - 10
    torch.testing.assert_close(smooth.sum((1, 2, 3)), torch.tensor([1.0, 3.0]))
    for axis, wanted in enumerate([sigma] * 3 if isinstance(sigma, float) else sigma):
        profile = smooth[0].sum([a for a in range(3) if a != axis])
        assert float((profile * offsets**2).sum()) ** 0.5 == pytest.approx(wanted, abs=0.05)
