from __future__ import annotations

import pytest
import torch
from monai.networks.nets import BasicUNet, DynUNet, SegResNet, SegResNetDS, UNet, VNet

from support.semisam_plus.batch import Specialist


def dynunet(**deep):
    return DynUNet(3, 1, 5, (3, 3, 3), (1, 2, 2), (2, 2), filters=(4, 8, 16), **deep)


BODIES = {
    "UNet": lambda: UNet(3, 1, 5, (4, 8), (2,)),
    "VNet": lambda: VNet(3, 1, 5),
    "SegResNet": lambda: SegResNet(3, 8, 1, 5, blocks_down=(1, 1), blocks_up=(1,)),
    "BasicUNet": lambda: BasicUNet(3, 1, 5, features=(4, 4, 8, 8, 8, 4), norm="batch"),
    "DynUNet": dynunet,
    "DynUNet deep": lambda: dynunet(deep_supervision=True, deep_supr_num=1),
    "SegResNetDS": lambda: SegResNetDS(3, 8, 1, 5, blocks_down=(1, 1, 1), dsdepth=2),
}


def specialist(body, classes=3):
    return Specialist(body, (16, 16, 16), (1, 1.5, 2), range(classes))


@pytest.mark.parametrize("name", BODIES)
def test_any_of_monais_networks_is_a_body(name):
    torch.manual_seed(0)
    network, image = specialist(BODIES[name]()), torch.rand(2, 1, 16, 16, 16)
    for training in (True, False):
        network.train(training)
        levels = network.forward_levels(image)
        assert len(levels) == (2 if training and name in ("DynUNet deep", "SegResNetDS") else 1)
        assert all(level.shape[:2] == (2, 5) for level in levels)
        assert network.forward_all(image).shape == (2, 5, 16, 16, 16)
        assert network(image).shape == (2, 3, 16, 16, 16)
    assert torch.equal(network(image), network.forward_all(image)[:, :3])
    assert torch.equal(levels[0], network.forward_all(image))


@pytest.mark.parametrize("name", ["UNet", "VNet", "SegResNet", "BasicUNet", "DynUNet"])
def test_torchscript(name):
    torch.manual_seed(0)
    network, image = specialist(BODIES[name]()).eval(), torch.rand(1, 1, 16, 16, 16)
    torch.testing.assert_close(torch.jit.script(network)(image), network(image))
