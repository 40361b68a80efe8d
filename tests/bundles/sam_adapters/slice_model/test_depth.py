from __future__ import annotations

import pytest
import torch

from support.bundle.path import import_bundle

depth = import_bundle("sam_adapters", "slice_model.depth")


def learnt(name: str) -> torch.nn.Module:
    """Return a mixer of 16 channels whose every weight is drawn."""
    mixer = depth.MIXERS[name](16, 8)
    for parameter in mixer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return mixer.eval()


@torch.no_grad()
@pytest.mark.parametrize("name", depth.MIXERS)
def test_it_adds_nothing_before_it_has_learnt(name):
    x = torch.randn(2, 16, 5, 4, 4)
    assert depth.MIXERS[name](16)(x).equal(x)


@torch.no_grad()
@pytest.mark.parametrize("name", depth.MIXERS)
def test_a_slice_sees_two_slices_to_each_side_and_no_further(name):
    mixer, x = learnt(name), torch.randn(1, 16, 9, 4, 4)
    for away in range(-4, 5):
        changed = x.clone()
        changed[:, :, 4 + away] += torch.randn(16, 4, 4)
        same = torch.allclose(mixer(changed)[:, :, 4], mixer(x)[:, :, 4], atol=1e-5)
        assert same == (abs(away) > depth.REACH), away


@torch.no_grad()
@pytest.mark.parametrize("name", depth.MIXERS)
def test_a_slab_of_five_gives_what_the_whole_volume_gives(name):
    mixer, x = learnt(name), torch.randn(1, 16, 7, 4, 4)
    volume = mixer(depth.repeat_ends(x))[:, :, depth.REACH : -depth.REACH]
    for z in range(7):
        around = [min(max(z + step, 0), 6) for step in range(-depth.REACH, depth.REACH + 1)]
        torch.testing.assert_close(mixer(x[:, :, around])[:, :, depth.REACH], volume[:, :, z], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_slab_looks_along_the_slices_alone_and_slab3d_around():
    for name, alone in (("slab", True), ("slab3d", False), ("attention", True)):
        mixer, x = learnt(name), torch.randn(1, 16, 5, 6, 6)
        changed = x.clone()
        changed[:, :, 2, 0, 0] += torch.randn(16)
        assert torch.allclose(mixer(changed)[..., 1, 1], mixer(x)[..., 1, 1], atol=1e-5) == alone, name
