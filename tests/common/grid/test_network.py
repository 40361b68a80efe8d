from __future__ import annotations

import pytest
import torch
from monai.networks.nets import BasicUNet, DynUNet, SegResNetDS, UNet
from torch import nn

from common.grid.network import BodyNetwork

BODIES = {
    "UNet": lambda: UNet(3, 1, 5, (4, 8), (2,)),
    "BasicUNet": lambda: BasicUNet(3, 1, 5, features=(4, 4, 8, 8, 8, 4), norm="batch"),
    "DynUNet deep": lambda: DynUNet(
        3, 1, 5, (3, 3, 3), (1, 2, 2), (2, 2), filters=(4, 8, 16), deep_supervision=True, deep_supr_num=1
    ),
    "SegResNetDS": lambda: SegResNetDS(3, 8, 1, 5, blocks_down=(1, 1, 1), dsdepth=2),
}


def network_of(body: nn.Module) -> BodyNetwork:
    return BodyNetwork(body, (16, 16, 16), (1, 1.5, 2), (0, 4, 7))


@pytest.mark.parametrize("name", BODIES)
def test_answer_is_the_first_channels_of_the_finest_map(name):
    torch.manual_seed(0)
    network, image = network_of(BODIES[name]()), torch.rand(2, 1, 16, 16, 16)
    network.train()
    assert len(network.forward_levels(image)) == (2 if name in ("DynUNet deep", "SegResNetDS") else 1)
    network.eval()
    everything = network.forward_all(image)
    assert everything.shape == (2, 5, 16, 16, 16) and torch.equal(network(image), everything[:, :3])


def test_ranges_are_kept_where_there_are_some():
    def kept(*ranges):
        return BodyNetwork(nn.Identity(), (16, 16, 16), (1, 1, 1), (0, 1), intensity_range=ranges).state_dict()

    assert "intensity_range" not in kept(None), "a model of percentiles is as it always was"
    assert torch.equal(kept((-160, 240.5))["intensity_range"], torch.tensor([[-160, 240.5]]))
    mixed = kept(None, (0, 10))["intensity_range"]
    assert mixed.shape == (2, 2) and mixed[0].tolist() == [0, 0] and mixed[1].tolist() == [0, 10]
    assert not kept(None, None)["intensity_range"].any()


def test_torchscript_gives_the_same_answer():
    torch.manual_seed(0)
    network, image = network_of(BODIES["UNet"]()).eval(), torch.rand(1, 1, 16, 16, 16)
    torch.testing.assert_close(torch.jit.script(network)(image), network(image))


def test_grid_travels_in_the_state_dict():
    state = network_of(nn.Conv3d(1, 3, 1)).state_dict()
    assert state["spatial_size"].tolist() == [16, 16, 16] and state["pixdim"].tolist() == [1, 1.5, 2]
    assert state["label_values"].tolist() == [0, 4, 7]
    assert {name for name in state if not name.startswith("body.")} == {"spatial_size", "pixdim", "label_values"}


@pytest.mark.parametrize(
    ("size", "pixdim", "values", "text"),
    [
        ((16, 0, 16), (1, 1, 1), (0, 1), "spatial_size"),
        ((16, 16, 16), (1, -1, 1), (0, 1), "pixdim"),
        ((16, 16, 16), (1, 1, 1), (0,), "label_values is"),
    ],
)
def test_wrong_arguments(size, pixdim, values, text):
    with pytest.raises(ValueError, match=text):
        BodyNetwork(nn.Conv3d(1, 2, 1), size, pixdim, values)
