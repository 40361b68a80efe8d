from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from common.errors import InputError
from common.imaging.cam import CamHead, cam_volume, maps_to_volume, normalise_maps, smooth_gate


def seeded(*size: int) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(0))


def test_the_logit_of_a_linear_head_is_that_of_pooling_first():
    head = CamHead(12, 3, bias=True)
    features = seeded(4, 12, 5, 7)
    logits, maps = head(features)
    linear = F.linear(features.mean((2, 3)), head.last.weight[:, :, 0, 0], head.last.bias)
    assert logits.shape == (4, 3) and maps.shape == (4, 3, 5, 7)
    assert torch.allclose(logits, linear, atol=1e-5)
    weighted = torch.einsum("pd,ndhw->nphw", head.last.weight[:, :, 0, 0], features)
    assert torch.allclose(maps, weighted + head.last.bias[:, None, None], atol=1e-5)


def test_the_published_head_has_one_weight_for_each_channel_and_class():
    assert {name: tuple(p.shape) for name, p in CamHead(768, 9).named_parameters()} == {"last.weight": (9, 768, 1, 1)}


def test_hidden_head_keeps_the_grid_and_top_pooling_takes_the_highest():
    head = CamHead(12, 2, hidden=8, pooling="top", top_share=0.1)
    logits, maps = head(seeded(3, 12, 5, 8))
    assert maps.shape == (3, 2, 5, 8)
    assert torch.allclose(logits, maps.flatten(2).sort(descending=True).values[..., :4].mean(2))
    logits.sum().backward()
    assert all(p.grad is not None for p in head.parameters())


def test_heads_that_cannot_be():
    with pytest.raises(InputError, match="max"):
        CamHead(4, 1, pooling="max")
    with pytest.raises(InputError, match="top_share"):
        CamHead(4, 1, top_share=0.0)


def test_a_faint_slice_stays_faint_over_the_volume_alone():
    maps = seeded(5, 2, 6, 6)
    maps[1] *= 0.1
    bits = torch.tensor([[1, 1, 1, 0, 0], [0, 1, 0, 1, 1]]).bool()
    volume = normalise_maps(maps, bits)
    assert volume.amin() >= 0 and volume[bits.T].amax() == 1
    assert volume[~bits.T].eq(0).all()
    assert volume[1, 0].amax() - volume[1, 0].amin() < 0.2
    own = maps[:3, 0]
    assert torch.allclose(volume[:3, 0], (own - own.min()) / (own.max() - own.min()), atol=1e-5)
    slices = normalise_maps(maps, bits, scope="slice")
    assert torch.allclose(slices[bits.T].flatten(1).amax(1), torch.ones(6))
    assert slices[~bits.T].eq(0).all()


def test_the_published_range_of_a_slice():
    maps = seeded(2, 1, 4, 4)
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    assert torch.allclose(normalise_maps(maps, scope="slice"), (maps - low + 1e-6) / (high - low + 1e-6))


def test_percentiles_clip_a_single_peak():
    maps = torch.linspace(0, 1, 400).view(4, 1, 10, 10).clone()
    maps[3, 0, 9, 9] = 50.0
    assert normalise_maps(maps).median() < 0.02
    clipped = normalise_maps(maps, percentiles=(1, 99))
    assert float(clipped.median()) == pytest.approx(0.5, abs=0.02) and clipped.amax() == 1


def test_a_class_on_no_slice_is_nowhere():
    maps, bits = seeded(3, 1, 4, 4), torch.zeros(1, 3, dtype=torch.bool)
    for scope in ("volume", "slice"):
        assert normalise_maps(maps, bits, scope).eq(0).all()


def test_maps_that_cannot_be_normalised():
    with pytest.raises(InputError, match="case"):
        normalise_maps(seeded(3, 1, 4, 4), scope="case")
    with pytest.raises(InputError, match="bits"):
        normalise_maps(seeded(3, 1, 4, 4), torch.ones(3, 1, dtype=torch.bool))


def test_gate_takes_out_single_slices():
    logits = torch.full((2, 12), -3.0)
    logits[0, 4:9], logits[0, 6], logits[1, 5] = 3.0, -3.0, 3.0
    assert smooth_gate(logits, sigma=0.0).equal(logits > 0)
    smooth = smooth_gate(logits, sigma=1.0)
    assert smooth[0].nonzero().flatten().tolist() == [4, 5, 6, 7, 8] and not smooth[1].any()


def test_gate_with_hysteresis_keeps_weak_slices_beside_a_sure_one():
    probabilities = torch.tensor([[0.1, 0.4, 0.7, 0.4, 0.1, 0.4, 0.5, 0.4]])
    kept = smooth_gate(probabilities.logit(), sigma=0.0, hysteresis=(0.3, 0.6))
    assert kept[0].nonzero().flatten().tolist() == [1, 2, 3]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_maps_lie_where_their_slices_lie(axis):
    size = [12, 10, 8]
    plane = [n for a, n in enumerate(size) if a != axis]
    maps = seeded(size[axis], 2, *plane)
    volume = maps_to_volume(maps, size, axis)
    assert volume.shape == (2, 12, 10, 8)
    for index in range(size[axis]):
        assert torch.allclose(volume.select(axis + 1, index), maps[index])


def test_coarse_maps_are_interpolated_over_the_whole_slice_and_fine_ones_averaged():
    coarse = seeded(3, 2, 4, 5)
    volume = maps_to_volume(coarse, (8, 3, 10), 1)
    wanted = F.interpolate(coarse, (8, 10), mode="bilinear", align_corners=False)
    assert torch.allclose(volume.movedim(2, 0), wanted, atol=1e-6)
    assert torch.allclose(maps_to_volume(coarse, (3, 2, 5), 0).movedim(1, 0), F.avg_pool2d(coarse, (2, 1)), atol=1e-6)


def test_fewer_maps_than_slices_stand_for_equal_parts():
    volume = maps_to_volume(torch.tensor([0.0, 1.0]).view(2, 1, 1, 1), (1, 1, 4), 2)
    assert volume.flatten().tolist() == pytest.approx([0, 0.25, 0.75, 1])


def test_cam_of_a_volume_takes_its_range_after_interpolation():
    maps = seeded(6, 1, 4, 4)
    bits = torch.tensor([[0, 1, 1, 1, 0, 0]]).bool()
    volume = cam_volume(maps, bits, (16, 16, 6), 2)
    assert volume.shape == (1, 16, 16, 6) and volume.amax() == 1 and volume[..., 1:4].amin() < 1e-4
    assert volume[..., [0, 4, 5]].eq(0).all()
