from __future__ import annotations

import torch

from support.ada_sam.batch import make_network, make_slices


def make(**options):
    return make_network(**options).eval()


def embed(network, count=4):
    with torch.no_grad():
        return network.encode(make_slices(count)[0])


def test_before_anything_was_observed_each_slice_has_its_own_range():
    network = make()
    cam = network.look(embed(network)).cam.flatten(2)
    assert not network.observed.any()
    assert (cam.amin(2) == 0).all() and torch.allclose(cam.amax(2), torch.ones(4, 2))
    network.cam_high[0] = 100  # one class observed, the other one not
    cam = network.look(embed(network)).cam.flatten(2)
    assert network.observed.tolist() == [True, False]
    assert (cam[:, 0] < 0.1).all() and torch.allclose(cam[:, 1].amax(1), torch.ones(4))


def test_running_range_is_that_of_slices_where_a_class_is():
    network = make(momentum=0.75)
    maps = torch.zeros(3, 2, 2, 2)
    maps[0, 0, 0] = torch.tensor([-1.0, 5.0])
    maps[1, 0, 0] = torch.tensor([-3.0, 9.0])
    maps[2, 0] = 1000  # not there
    network.observe(maps, torch.tensor([[1, 0], [1, 0], [0, 0]]))
    assert network.cam_low.tolist() == [-2, 0] and network.cam_high.tolist() == [7, 0]  # the first slices set it
    network.observe(maps[:1] * 3, torch.tensor([[1, 0]]))
    assert network.cam_low.tolist() == [-2.25, 0] and network.cam_high.tolist() == [9, 0]  # later ones move it
    network.observe(maps, torch.zeros(3, 2))
    assert network.cam_low.tolist() == [-2.25, 0] and network.cam_high.tolist() == [9, 0]


def test_maps_as_logits_of_masks_need_no_range():
    network = make(cam_range="sigmoid")
    embedding = embed(network)
    sight = network.look(embedding)
    assert torch.equal(sight.cam, network.planes(sight.maps).sigmoid()) and sight.cam.std() > 0
    network.observe(sight.maps * 100, torch.ones(4, 2))
    assert all(torch.equal(now, before) for now, before in zip(network.look(embedding), sight, strict=True))
