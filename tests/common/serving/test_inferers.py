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

    found = VolumeInferer([8, 8, 8], overlap=0.5, batch_size=1, amp=False)(torch.zeros(1, 1, 12, 8, 8), network)
    assert seen == [(8, 8, 8)] * 2
    assert found[0, 0, 5, 0, 0].exp() == pytest.approx(0.5, abs=1e-4)


def body() -> torch.nn.Module:
    """A network whose answer depends on the surroundings of a voxel, in evaluation mode."""
    torch.manual_seed(0)
    norms = torch.nn.BatchNorm3d(4), torch.nn.InstanceNorm3d(4, affine=True)
    layers = [torch.nn.Conv3d(1, 4, 3, padding=1), *norms, torch.nn.ReLU(), torch.nn.Conv3d(4, 3, 3, padding=1)]
    return torch.nn.Sequential(*layers).eval()


def test_how_many_windows_are_predicted_at_once_changes_nothing():
    image, network, sizes = torch.rand(1, 1, 20, 18, 16, generator=torch.Generator().manual_seed(1)), body(), []
    network.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    found = []
    with torch.no_grad():
        for batch_size in (1, 2, 5, 100):
            found.append(VolumeInferer([8, 8, 8], batch_size=batch_size, amp=False)(image, network))
        whole = VolumeInferer(amp=False)(image, network)
    windows = sizes.count(1)  # those of the first, and what is left over for the others
    assert {2, 5} < set(sizes) and max(sizes) > 40 and windows > 40
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=0, atol=1e-5)
    assert (found[0] - whole).abs().max() > 0.01  # windows do matter to this network


@pytest.mark.parametrize("roi_size", [None, [8, 8, 8]])
def test_a_mirrored_image_of_a_symmetric_network_gives_the_mirrored_answer(roi_size):
    network, image = body(), blob((20, 12, 16))  # whose windows lie at 0, 4, ... on each axis, from either end
    with torch.no_grad():
        for layer in (network[0], network[-1]):
            for axis in (2, 3, 4):
                layer.weight.copy_((layer.weight + layer.weight.flip(axis)) / 2)
        inferer = VolumeInferer(roi_size, overlap=0.5, amp=False)
        for axes in ([2], [3], [4], [2, 3, 4]):
            mirrored = inferer(image.flip(axes), network).flip(axes)
            torch.testing.assert_close(mirrored, inferer(image, network), rtol=0, atol=1e-4)
