from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from torch.nn import functional as F

from common.serving.inferers import AffineTTAInferer, VolumeInferer


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


def test_windows_of_a_pointwise_network_are_the_whole_volume():
    image = blob()
    whole = VolumeInferer(amp=False)(image, threshold)
    torch.testing.assert_close(whole, F.log_softmax(threshold(image), 1).clamp_min(-16.2), atol=1e-3, rtol=1e-3)
    for roi_size in ([8, 8, 8], [64, 8, 16]):
        found = VolumeInferer(roi_size, overlap=0.25, amp=False)(MetaTensor(image[0])[None], threshold)
        torch.testing.assert_close(found, whole)
        assert type(found) is torch.Tensor


def test_probabilities_of_overlapping_windows_are_averaged():
    seen = []

    def network(window):
        seen.append(tuple(window.shape[2:]))
        level = len(seen) % 2
        return torch.cat([torch.full_like(window, 50.0 * level), torch.full_like(window, 50.0 * (1 - level))], 1)

    found = VolumeInferer([8, 8, 8], overlap=0.5, amp=False)(torch.zeros(1, 1, 12, 8, 8), network)
    assert seen == [(8, 8, 8)] * 2
    assert found[0, 0, 5, 0, 0].exp() == pytest.approx(0.5, abs=1e-4)


def test_windows_at_once_change_nothing_and_a_flipped_image_gives_flipped_labels():
    kernel = torch.zeros(2, 1, 3, 3, 3)
    kernel[1] = 1.0
    kernel[1, 0, 1, 1, 1] = 5.0  # sees its neighbours, every side alike

    def network(image):
        return F.conv3d(image, kernel, bias=torch.tensor([6.0, 0.0]), padding=1)

    image = blob((16, 16, 16))  # windows of 8 that overlap by half lie alike from both sides
    one, many = (VolumeInferer([8, 8, 8], 0.5, batch_size=n, amp=False)(image, network) for n in (1, 5))
    torch.testing.assert_close(many, one)
    flipped = VolumeInferer([8, 8, 8], 0.5, amp=False)(image.flip(2, 4), network)
    torch.testing.assert_close(flipped.flip(2, 4), one, atol=1e-4, rtol=1e-3)
