from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from torch.nn import functional as F

from common.inferers import AffineTTAInferer


def blob(size=(20, 18, 16)):
    axes = torch.meshgrid(*[torch.linspace(-1, 1, n) for n in size], indexing="ij")
    return torch.exp(-3 * ((axes[0] - 0.2) ** 2 + axes[1] ** 2 + 2 * axes[2] ** 2))[None, None]


def threshold(image):
    return torch.cat([torch.zeros_like(image), 20 * (image - 0.5)], dim=1)


def test_without_views_it_is_the_networks_log_softmax():
    image = blob()
    torch.testing.assert_close(AffineTTAInferer()(image, threshold), F.log_softmax(threshold(image), dim=1))


def test_views_are_brought_back_to_where_they_came_from():
    image = blob()
    inferer = AffineTTAInferer(views=6)
    plain, turned = AffineTTAInferer()(image, threshold).exp(), inferer(image, threshold).exp()
    inner = (..., slice(3, -3), slice(3, -3), slice(3, -3))
    seen = []
    inferer(image, lambda x: (seen.append(x), threshold(x))[1])
    assert len(seen) == 7
    left_where_seen = torch.stack([F.softmax(threshold(x), dim=1) for x in seen]).mean(0)
    assert (plain - turned)[inner].abs().mean() < 0.3 * (plain - left_where_seen)[inner].abs().mean()
    assert min((x - image).abs().max() for x in seen[1:]) > 0.05  # each view does differ


def test_probabilities_sum_to_one_and_a_second_run_is_equal():
    image, inferer = blob(), AffineTTAInferer(views=3)
    first = inferer(image, threshold)
    torch.testing.assert_close(first.exp().sum(1), torch.ones(1, *image.shape[2:]), rtol=0, atol=1e-3)
    state = torch.get_rng_state()
    assert torch.equal(first, inferer(image, threshold))
    assert torch.equal(state, torch.get_rng_state())  # the training's random numbers are left alone


def test_matrices_stay_within_the_limits():
    matrices = AffineTTAInferer(views=20, rotation=5, scale=0.1, shift=2).matrices()
    for matrix in matrices:
        assert matrix.shape == (3, 4) and matrix[:, 3].abs().max() <= 2
        assert 0.9**3 - 1e-3 <= float(torch.linalg.det(matrix[:, :3])) <= 1.1**3 + 1e-3
    assert len({tuple(m.flatten().tolist()) for m in matrices}) == 20


def test_a_batch_is_the_cases_alone():
    images = torch.cat([blob(), 0.7 * blob()])
    inferer = AffineTTAInferer(views=2)
    torch.testing.assert_close(inferer(images, threshold)[1:], inferer(images[1:], threshold))


@pytest.mark.parametrize("amp", [True, False])
def test_the_result_is_a_plain_float32_tensor(amp):
    convolution = torch.nn.Conv3d(1, 2, 1)
    with torch.no_grad():
        result = AffineTTAInferer(views=1, amp=amp)(MetaTensor(blob()), convolution)
    assert result.dtype == torch.float32 and not isinstance(result, MetaTensor)
