from __future__ import annotations

import numpy as np
import torch

from common.synthesis.warped import mix_velocities, warp_pair

SIZE = (12, 16, 10)


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    label = torch.nn.functional.one_hot(torch.randint(0, 3, SIZE, generator=random), 3).movedim(-1, 0)[None].float()
    return label[:, 1:2] + 2 * label[:, 2:], label


def test_the_label_is_warped_exactly_as_the_image():
    image, label = pair()
    random = torch.Generator().manual_seed(1)
    affine = torch.eye(3, 4)[None] + 0.1 * torch.randn(1, 3, 4, generator=random)
    moved, exact = warp_pair(image, label, affine, torch.randn(3, 6, 8, 5, generator=random))
    torch.testing.assert_close(moved[0], exact[1] + 2 * exact[2])
    assert not torch.allclose(moved, image[0], atol=0.1)
    torch.testing.assert_close(exact.sum(0), torch.ones(SIZE))


def test_without_a_field_nothing_moves():
    image, label = pair()
    moved, exact = warp_pair(image, label, torch.eye(3, 4)[None], None)
    torch.testing.assert_close(moved, image[0], rtol=0, atol=1e-4)
    torch.testing.assert_close(exact, label[0], rtol=0, atol=1e-4)


def test_velocities_are_mixed_within_their_sum():
    one, other = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    random = np.random.RandomState(0)
    sums = torch.stack([mix_velocities(one, other, random) for _ in range(200)])
    total = sums.sum(1)
    assert sums.min() >= 0 and 0.5 <= total.min() < 0.55 and 1.15 < total.max() <= 1.2
    assert (sums[:, 0] / total).std() > 0.2
    assert mix_velocities(None, None, random) is None
    assert float(mix_velocities(None, other, random)[0]) == 0.0
