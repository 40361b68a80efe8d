from __future__ import annotations

import pytest
import torch
from monai.networks.nets import UNet
from torch import nn

from support.bundle.path import import_bundle

module = import_bundle("weakmedsam", "network")


def segmenter(axis: int, network: nn.Module | None = None):
    torch.manual_seed(0)
    body = module.SliceBySlice(network or UNet(2, 1, 3, (4, 8), (2,), norm="batch"), axis)
    return module.Segmenter(body, (8, 12, 16), (1, 1, 1), (0, 1, 2)).eval()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_2d_network_sees_one_slice_after_the_other(axis):
    network, image = segmenter(axis), torch.rand(2, 1, 8, 12, 16)
    found = network(image)
    assert found.shape == (2, 3, 8, 12, 16)
    alone = network.body.network(image.select(axis + 2, 5))
    torch.testing.assert_close(found.select(axis + 2, 5), alone)
    changed = image.clone()
    changed.select(axis + 2, 5).zero_()
    same = [i for i in range(image.shape[axis + 2]) if i != 5]
    index = torch.tensor(same)
    torch.testing.assert_close(network(changed).index_select(axis + 2, index), found.index_select(axis + 2, index))


def test_slicing_axis_comes_with_the_weights():
    trained, served = segmenter(1), segmenter(2)
    served.load_state_dict(trained.state_dict())
    image = torch.rand(1, 1, 8, 12, 16)
    assert torch.equal(served(image), trained(image))


def test_torchscript_of_slices():
    network, image = segmenter(1), torch.rand(1, 1, 8, 12, 16)
    torch.testing.assert_close(torch.jit.script(network)(image), network(image))


def test_another_axis_is_refused():
    with pytest.raises(ValueError, match="slice_axis is 3"):
        module.SliceBySlice(nn.Conv2d(1, 2, 1), 3)
