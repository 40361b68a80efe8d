from __future__ import annotations

import json

import pytest
import torch
from monai.networks.nets import UNet

from common.learning.light_unet import LightDecoder, LightEncoder, parameter_count
from common.learning.unet_parts import take_apart
from support.bundle.path import BUNDLES

SAM_B_ENCODER = 89_670_912


def test_the_bundles_light_encoder_has_at_most_three_percent_of_sam_b():
    config = json.loads((BUNDLES / "rrl_medsam/configs/train.json").read_text(encoding="utf-8"))
    light = LightEncoder(1, config["channels"])
    unet, _ = take_apart(UNet(3, 1, 2, config["channels"], (2, 2, 2), num_res_units=2))
    for encoder in (light, unet):
        assert 0 < parameter_count(encoder) <= 0.03 * SAM_B_ENCODER


def test_parameter_count_by_hand():
    assert parameter_count(torch.nn.Conv3d(2, 3, 3)) == 3 * 2 * 27 + 3


@pytest.mark.parametrize("strides", [(2, 2, 2), (1, 2, 2), (2, 2, 1), (1, 1, 1)])
def test_features_halve_by_the_strides_and_the_decoder_returns_to_the_full_grid(strides):
    encoder = LightEncoder(1, (4, 6, 8), strides)
    decoder = LightDecoder(3, 1, (4, 6, 8), strides)
    image = torch.rand(2, 1, 16, 8, 24)
    features = encoder(image)
    step = 1
    for feature, width, stride in zip(features, (4, 6, 8), strides, strict=True):
        step *= stride
        assert feature.shape == (2, width, 16 // step, 8 // step, 24 // step)
    assert decoder(features, image).shape == (2, 3, 16, 8, 24)


def test_decoder_of_joined_features_stops_at_half_the_grid():
    encoder = LightEncoder(1, (4, 8), (2, 2))
    decoder = LightDecoder(3, 0, (8, 16), (2, 2), widths=(4, 8), full_grid=False)
    image = torch.rand(1, 1, 16, 16, 8)
    joined = [torch.cat([f, f], dim=1) for f in encoder(image)]
    assert decoder(joined, image).shape == (1, 3, 8, 8, 4)


def test_an_axis_of_thick_slices_may_wait():
    strides = [(2, 2, 1), (2, 2, 2), 1]
    encoder, decoder = LightEncoder(1, (4, 6, 8), strides), LightDecoder(3, 1, (4, 6, 8), strides)
    image = torch.rand(1, 1, 16, 8, 6)
    features = encoder(image)
    assert [tuple(f.shape[2:]) for f in features] == [(8, 4, 6), (4, 2, 3), (4, 2, 3)]
    assert decoder(features, image).shape == (1, 3, 16, 8, 6)


def test_every_parameter_learns():
    encoder, decoder = LightEncoder(1, (4, 8), (2, 2)), LightDecoder(2, 1, (4, 8), (2, 2))
    image = torch.rand(1, 1, 8, 8, 8)
    decoder(encoder(image), image).square().mean().backward()
    assert all(p.grad is not None for module in (encoder, decoder) for p in module.parameters())


def test_instance_norm_keeps_no_running_statistics():
    assert not list(LightEncoder(1, (4, 8), (2, 2)).buffers())


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    encoder, image = LightEncoder(1, (4, 8), (2, 2), dropout=0.5), torch.rand(1, 1, 8, 8, 8)
    assert not torch.equal(encoder(image)[-1], encoder(image)[-1])
    encoder.eval()
    assert torch.equal(encoder(image)[-1], encoder(image)[-1])


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_scripted_equals_eager():
    torch.manual_seed(0)
    encoder, decoder = LightEncoder(1, (4, 8), (2, 2)).eval(), LightDecoder(2, 1, (4, 8), (2, 2)).eval()
    image = torch.rand(1, 1, 8, 8, 8)
    scripted = torch.jit.script(decoder)(torch.jit.script(encoder)(image), image)
    torch.testing.assert_close(scripted, decoder(encoder(image), image))


@pytest.mark.parametrize(("channels", "strides"), [((4, 8), (2, 2, 2)), ((4, 8), (2, 3)), ((4,), (0,))])
def test_impossible_levels_are_refused(channels, strides):
    with pytest.raises(ValueError, match="one stride of 1 or 2 a level"):
        LightEncoder(1, channels, strides)
