from __future__ import annotations

import pytest
import torch
from monai.networks.nets import UNet

from common.learning.unet_parts import put_together, take_apart


def unet(strides=(2, 2), units=2):
    torch.manual_seed(0)
    return UNet(3, 1, 3, (4, 6, 8), strides, num_res_units=units, norm="instance").eval()


@pytest.mark.parametrize("units", [0, 2])
@pytest.mark.parametrize("strides", [(2, 2), ((2, 2, 1), (2, 2, 2))])
def test_both_ways_compute_what_the_unet_does(strides, units):
    whole, image = unet(strides, units), torch.rand(2, 1, 16, 8, 12)
    wanted = whole(image)
    encoder, decoder = take_apart(whole)
    features = encoder(image)
    assert [f.shape[1] for f in features] == [4, 6, 8]
    assert torch.equal(decoder(features, image), wanted)


def test_put_together_they_have_the_unets_state():
    whole = unet()
    again = put_together(*take_apart(whole)).state_dict()
    assert again.keys() == whole.state_dict().keys()
    assert all(torch.equal(value, again[name]) for name, value in whole.state_dict().items())


def test_each_parameter_belongs_to_one_of_both_ways_and_learns():
    whole, image = unet(), torch.rand(1, 1, 16, 16, 16)
    encoder, decoder = take_apart(whole)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    assert len(parameters) == len({id(p) for p in parameters}) == len(list(whole.parameters()))
    decoder(encoder(image), image).square().mean().backward()
    assert all(p.grad is not None for p in parameters)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_scripted_equals_eager():
    encoder, decoder = take_apart(unet())
    image = torch.rand(1, 1, 16, 16, 16)
    scripted = torch.jit.script(decoder)(torch.jit.script(encoder)(image), image)
    torch.testing.assert_close(scripted, decoder(encoder(image), image))
