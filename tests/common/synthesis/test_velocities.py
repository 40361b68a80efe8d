from __future__ import annotations

import numpy as np
import torch

from common.synthesis.velocities import mix_velocities


def test_velocities_are_mixed_within_their_sum():
    one, other = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    random = np.random.RandomState(0)
    sums = torch.stack([mix_velocities(one, other, random) for _ in range(200)])
    total = sums.sum(1)
    assert sums.min() >= 0 and 0.5 <= total.min() < 0.55 and 1.15 < total.max() <= 1.2
    assert (sums[:, 0] / total).std() > 0.2
    assert mix_velocities(None, None, random) is None
    assert float(mix_velocities(None, other, random)[0]) == 0.0
